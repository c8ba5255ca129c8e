"""Writers: `drain`, the end, and `wait_closed`."""

import asyncio
import gc
import warnings

import pytest

from .support import Recorder, echo, served


def new_writer(streams, transport):
    loop = asyncio.get_running_loop()
    reader = streams.StreamReader(loop=loop)
    protocol = streams.StreamReaderProtocol(reader, loop=loop)
    protocol.connection_made(transport)
    return reader, protocol, streams.StreamWriter(transport, protocol, reader, loop)


def test_drain_raises_what_the_reader_was_told_before_all_else(run, streams):
    async def main():
        transport = Recorder()
        reader, protocol, writer = new_writer(streams, transport)
        writer.write(data=b"data")
        await writer.drain()
        transport.closing = True
        protocol.connection_lost(None)
        with pytest.raises(ConnectionResetError, match="Connection lost"):
            await writer.drain()
        reader.set_exception(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await writer.drain()
        assert transport.calls == [("write", b"data")]

    run(main())


def test_drain_with_room_asks_the_transport_once_whether_it_closes(run, streams):
    class Idle(asyncio.Transport):
        asked = 0

        def is_closing(self):
            self.asked += 1
            return False

    async def main():
        reader = streams.StreamReader()
        transport = Idle()
        loop = asyncio.get_running_loop()
        writer = streams.StreamWriter(transport, streams.StreamReaderProtocol(reader), reader, loop)
        await writer.drain()
        assert transport.asked == 1
        # It must not be closed by its __del__.
        transport.is_closing = lambda: True

    run(main())


def test_drain_of_a_closing_transport_gives_the_loop_a_turn(run, streams):
    async def main():
        transport = Recorder()
        _, protocol, writer = new_writer(streams, transport)
        turns = []
        asyncio.get_running_loop().call_soon(turns.append, "a turn")
        await writer.drain()
        assert turns == []
        writer.close()
        asyncio.get_running_loop().call_soon(protocol.connection_lost, None)
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        assert turns == ["a turn"]

    run(main())


@pytest.mark.parametrize("error", [None, BrokenPipeError("gone")], ids=["closed", "broken"])
def test_all_who_drain_wait_until_there_is_room_or_no_connection(run, streams, error):
    async def main():
        transport = Recorder()
        _, protocol, writer = new_writer(streams, transport)
        protocol.pause_writing()
        drains = [asyncio.ensure_future(writer.drain()) for _ in range(3)]
        await asyncio.sleep(0)
        assert len(protocol._drain_waiters) == 3
        drains[1].cancel()
        await asyncio.sleep(0)
        assert [drain.done() for drain in drains] == [False, True, False]
        assert len(protocol._drain_waiters) == 2
        protocol.resume_writing()
        await asyncio.gather(drains[0], drains[2])
        assert len(protocol._drain_waiters) == 0
        with pytest.raises(AssertionError):
            protocol.resume_writing()

        protocol.pause_writing()
        with pytest.raises(AssertionError):
            protocol.pause_writing()
        drain = asyncio.ensure_future(writer.drain())
        await asyncio.sleep(0)
        transport.closing = True
        protocol.connection_lost(error)
        if error is None:
            await drain
        else:
            with pytest.raises(BrokenPipeError):
                await drain
            with pytest.raises(BrokenPipeError):
                await writer.wait_closed()

    run(main())


def test_an_end_that_nobody_asks_for_is_not_reported(run, streams):
    async def main():
        for asked in (False, True):
            transport = Recorder()
            transport.closing = True
            reader, protocol, writer = new_writer(streams, transport)
            if asked:
                assert not protocol._closed.done()
            protocol.connection_lost(BrokenPipeError())
            del reader, protocol, writer
            gc.collect()

    run(main())


def test_wait_closed_may_be_called_before_and_after_and_often(run, streams):
    async def main():
        async with served(streams, echo) as connect:
            reader, writer = await connect()
            waiting = asyncio.ensure_future(writer.wait_closed())
            await asyncio.sleep(0)
            assert not waiting.done()
            writer.close()
            await waiting
            await writer.wait_closed()
            await writer.wait_closed()

    run(main())


@pytest.mark.skipif(not hasattr(asyncio.StreamWriter, "__del__"), reason="early versions of 3.11 do not warn")
def test_a_writer_that_is_dropped_open_closes_its_connection_with_a_warning(run, streams):
    async def main():
        async with served(streams, echo) as connect:
            reader, writer = await connect()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del writer
                gc.collect()
            assert [warning.category for warning in caught] == [ResourceWarning]
            assert str(caught[0].message).startswith("unclosed <StreamWriter")
            assert await reader.read() == b""

    run(main())
