"""What pipes that are read and pipes that are written to have in common, from the connecting to the end."""

import asyncio
import gc
import os
import pty
import tty
import warnings
from contextvars import ContextVar

import ferrio
import pytest

from .support import Recorder, turns, within


@pytest.fixture(params=["read", "write"])
def connect(request, loop, ends):
    """Connects one end: its transport and protocol."""

    async def connect(protocol_factory=Recorder):
        if request.param == "read":
            return await loop.connect_read_pipe(protocol_factory, ends[0])
        return await loop.connect_write_pipe(protocol_factory, ends[1])

    connect.file = ends[0] if request.param == "read" else ends[1]
    connect.kind = asyncio.ReadTransport if request.param == "read" else asyncio.WriteTransport
    return connect


def test_a_transport_is_asyncios(loop, connect):
    async def main():
        transport, protocol = await connect()
        assert isinstance(transport, connect.kind)
        assert isinstance(transport, asyncio.BaseTransport)
        assert transport.get_extra_info("pipe") is connect.file
        assert transport.get_extra_info("nothing") is None
        assert transport.get_extra_info("nothing", 5) == 5
        assert not os.get_blocking(connect.file.fileno())
        transport.close()
        await within(protocol.lost)
        assert transport.get_extra_info("pipe") is connect.file

    loop.run_until_complete(main())


def test_connection_lost_comes_later_and_once(loop, connect):
    async def main():
        transport, protocol = await connect()
        transport.close()
        transport.close()
        assert protocol.names == ["connection_made"]
        assert await within(protocol.lost) is None
        transport.close()
        await turns()
        assert protocol.names == ["connection_made", "connection_lost"]
        assert connect.file.closed

    loop.run_until_complete(main())


def test_a_protocol_can_be_replaced(loop, connect):
    async def main():
        transport, first = await connect()
        second = Recorder()
        assert transport.get_protocol() is first
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        transport.close()
        await within(second.lost)
        assert first.names == ["connection_made"]

    loop.run_until_complete(main())


def test_the_protocol_is_called_in_the_context_of_the_connecting(loop, connect):
    variable = ContextVar("variable", default="outside")

    class Reading(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.made_in = variable.get()

        def connection_lost(self, exc):
            self.lost_in = variable.get()
            super().connection_lost(exc)

    async def main():
        variable.set("inside")
        transport, protocol = await connect(Reading)
        loop.call_soon(transport.close)
        await within(protocol.lost)
        assert (protocol.made_in, protocol.lost_in) == ("inside", "inside")

    loop.run_until_complete(main())


def test_the_protocol_is_let_go_after_the_loss(loop, connect):
    async def main():
        transport, protocol = await connect()
        transport.close()
        await within(protocol.lost)
        await turns()
        assert transport.get_protocol() is None

    loop.run_until_complete(main())


def test_a_repr_says_how_it_stands(loop, connect):
    async def main():
        transport, protocol = await connect()
        assert f"fd={connect.file.fileno()}" in repr(transport)
        assert "closing" not in repr(transport)
        transport.close()
        assert "closing" in repr(transport)
        await within(protocol.lost)
        await turns()
        assert "closed" in repr(transport)

    loop.run_until_complete(main())


def test_a_regular_file_is_refused_and_stays_open(loop, tmp_path):
    async def main():
        with open(tmp_path / "file", "w+b") as file:
            with pytest.raises(ValueError, match="Pipe transport is for pipes/sockets only"):
                await loop.connect_read_pipe(Recorder, file)
            with pytest.raises(ValueError, match="only for pipes, sockets and character devices"):
                await loop.connect_write_pipe(Recorder, file)
            assert not file.closed

    loop.run_until_complete(main())


# The finalizer of the stock transport stumbles over the half-made object.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("wrong", [None, "x", object()])
def test_what_has_no_fileno_is_refused(loop, wrong):
    async def main():
        for connect in (loop.connect_read_pipe, loop.connect_write_pipe):
            with pytest.raises(AttributeError):
                await connect(Recorder, wrong)

    loop.run_until_complete(main())


def test_cancelling_the_connecting_closes_the_pipe(loop, connect):
    async def main():
        task = asyncio.ensure_future(connect())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns()
        assert connect.file.closed

    loop.run_until_complete(main())


def test_an_unclosed_transport_warns_and_closes_its_file(loop, connect):
    async def main():
        transport, protocol = await connect()
        return None

    loop.run_until_complete(main())
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        loop.close()
        del main
        gc.collect()
    assert connect.file.closed


def test_a_closed_transport_does_not_warn(loop, connect):
    async def main():
        transport, protocol = await connect()
        transport.close()
        await within(protocol.lost)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.run_until_complete(main())
        loop.close()
        gc.collect()


def test_reader_and_writer_may_share_a_terminal(loop):
    async def main():
        parent, child = pty.openpty()
        tty.setraw(child)
        reader, reading = await loop.connect_read_pipe(Recorder, open(parent, "rb", 0, closefd=False))
        writer, writing = await loop.connect_write_pipe(Recorder, open(parent, "wb", 0, closefd=False))
        writer.write(b"to the child")
        assert os.read(child, 100) == b"to the child"
        os.write(child, b"from the child")
        await asyncio.sleep(0.02)
        assert reading.data == b"from the child"
        writer.close()
        await within(writing.lost)
        os.write(child, b" again")
        await asyncio.sleep(0.02)
        reader.close()
        await within(reading.lost)
        os.close(parent)
        os.close(child)

    loop.run_until_complete(main())


# On the stock loop the second transport takes the first one's watcher, and the first takes the second's away.
def test_two_writers_on_one_pipe_each_hear_of_their_own_end():
    async def main():
        loop = asyncio.get_running_loop()
        reader, number = os.pipe()
        first_file, second_file = open(number, "wb", 0), open(number, "wb", 0, closefd=False)
        first, first_protocol = await loop.connect_write_pipe(Recorder, second_file)
        second, second_protocol = await loop.connect_write_pipe(Recorder, first_file)
        first.close()
        await within(first_protocol.lost)
        assert not second_protocol.lost.done()
        second.write(b"still open")
        assert os.read(reader, 100) == b"still open"
        second.close()
        await within(second_protocol.lost)
        os.close(reader)

    ferrio.run(main())


def test_connecting_and_closing_a_thousand_times_leaks_nothing(loop):
    async def main():
        before = open_descriptors()
        for _ in range(500):
            reader, writer = os.pipe()
            first, reading = await loop.connect_read_pipe(Recorder, open(reader, "rb", 0))
            second, writing = await loop.connect_write_pipe(Recorder, open(writer, "wb", 0))
            second.write(b"x")
            second.close()
            await within(reading.lost)
            await within(writing.lost)
        await turns()
        assert open_descriptors() == before

    loop.run_until_complete(main())


def open_descriptors():
    return len(os.listdir("/dev/fd"))
