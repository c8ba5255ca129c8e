"""A protocol that takes over from another one, or changes its own methods, on a living transport."""

import pytest

from .support import BufferedRecorder, Recorder, in_thread, read_exactly, transport_over, until, within


@pytest.mark.parametrize("second", [Recorder, BufferedRecorder])
def test_set_protocol_takes_effect_with_the_next_event(run, sockets, second):
    ours, peer = sockets
    successors = []

    class First(Recorder):
        def data_received(self, data):
            super().data_received(data)
            successors.append(second())
            self.transport.set_protocol(successors[0])

    async def main():
        transport, first = await transport_over(ours, First)
        peer.send(b"upgrade")
        await until(lambda: successors)
        assert transport.get_protocol() is successors[0]
        peer.send(b"hello")
        await until(lambda: successors[0].data == b"hello")
        peer.close()
        await within(successors[0].lost)
        assert first.events == [("connection_made",), ("data_received", b"upgrade")]
        assert [name for name, *_ in successors[0].events][-2:] == ["eof_received", "connection_lost"]

    run(main())


def test_set_protocol_from_a_buffered_protocol_to_a_plain_one(run, sockets):
    ours, peer = sockets

    async def main():
        transport, first = await transport_over(ours, BufferedRecorder)
        peer.send(b"first")
        await until(lambda: first.data)
        second = Recorder()
        transport.set_protocol(second)
        peer.send(b"second")
        await until(lambda: second.data)
        assert (first.data, second.data) == (b"first", b"second")
        transport.close()
        await within(second.lost)

    run(main())


def test_flow_control_goes_to_the_protocol_set_last(run, sockets):
    ours, peer = sockets

    async def main():
        transport, first = await transport_over(ours)
        second = Recorder()
        transport.set_protocol(second)
        transport.write(bytes(8 << 20))
        await in_thread(read_exactly, peer, 8 << 20)
        await until(lambda: second.names == ["pause_writing", "resume_writing"])
        transport.close()
        await within(second.lost)
        assert first.names == ["connection_made"]

    run(main())


def test_methods_replaced_on_the_protocol_instance_are_called(run, sockets):
    """A transport that caches bound methods has to look again."""
    ours, peer = sockets
    got = []

    async def main():
        transport, protocol = await transport_over(ours)
        peer.send(b"a")
        await until(lambda: protocol.data)
        protocol.data_received = got.append
        peer.send(b"b")
        await until(lambda: got)
        assert (protocol.data, got) == (b"a", [b"b"])
        transport.close()
        await within(protocol.lost)

    run(main())
