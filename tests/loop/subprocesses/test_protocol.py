"""What the protocol of a child hears, and in which order."""

import asyncio

from .support import PYTHON, Recorder, within


def test_a_protocol_hears_of_everything_and_of_the_loss_last(loop):
    async def main():
        transport, protocol = await loop.subprocess_exec(
            Recorder, PYTHON, "-c", "import sys; sys.stderr.write('err'); print(sys.stdin.read()); sys.exit(3)"
        )
        assert protocol.calls == [("connection_made", transport)]
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"hello")
        stdin.write_eof()
        assert await within(protocol.lost) is None
        assert protocol.data == {1: b"hello\n", 2: b"err"}
        assert transport.get_returncode() == 3
        assert protocol.names[0] == "connection_made"
        assert protocol.names[-1] == "connection_lost"
        lost = {fd for name, *rest in protocol.calls if name == "pipe_connection_lost" for fd in rest[:1]}
        assert lost == {0, 1, 2}
        for name in ("process_exited", "connection_lost"):
            assert protocol.names.count(name) == 1
        transport.close()

    loop.run_until_complete(main())


def test_the_loss_waits_for_pipes_that_a_grandchild_holds(loop):
    async def main():
        transport, protocol = await loop.subprocess_shell(Recorder, "(sleep 0.3; echo late) & exit 0")
        await within(protocol.exited)
        assert transport.get_returncode() == 0
        assert not protocol.lost.done()
        await within(protocol.lost)
        assert protocol.data[1] == b"late\n"
        transport.close()

    loop.run_until_complete(main())


def test_exceptions_of_the_protocol_are_reported_and_change_nothing(loop):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    class Failing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise ArithmeticError("made")

        def pipe_data_received(self, fd, data):
            super().pipe_data_received(fd, data)
            raise ArithmeticError("data")

        def process_exited(self):
            super().process_exited()
            raise ArithmeticError("exited")

        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise ArithmeticError("lost")

    async def main():
        transport, protocol = await loop.subprocess_shell(Failing, "echo out", stdin=None, stderr=None)
        await within(protocol.lost)
        await asyncio.sleep(0)
        transport.close()

    loop.run_until_complete(main())
    assert {str(context["exception"]) for context in contexts} == {"made", "data", "exited", "lost"}


def test_a_protocol_can_be_replaced(loop):
    async def main():
        transport, first = await loop.subprocess_shell(Recorder, "cat", stderr=None)
        second = Recorder()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        transport.get_pipe_transport(0).write(b"data")
        transport.get_pipe_transport(0).close()
        await within(second.lost)
        assert (first.data[1], second.data[1]) == (b"", b"data")
        transport.close()

    loop.run_until_complete(main())
