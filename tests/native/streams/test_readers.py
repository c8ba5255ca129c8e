"""Readers. What they do with any sequence of calls is compared in tests/native/test_streams_model.py."""

import asyncio

import ferrio
import pytest


def test_the_private_buffer_is_live(run, streams):
    async def main():
        reader = streams.StreamReader()
        reader.feed_data(b"one\ntwo\nthree\n")
        assert await reader.readline() == b"one\n"
        buffer = reader._buffer
        assert isinstance(buffer, bytearray)
        assert buffer == b"two\nthree\n"
        del buffer[:4]
        reader.feed_data(b"four\n")
        assert buffer == b"three\nfour\n"
        assert await reader.readexactly(2) == b"th"
        assert reader._buffer is buffer
        buffer[:] = b"all else\n"
        assert await reader.readline() == b"all else\n"
        reader._buffer = bytearray(b"mine")
        reader.feed_eof()
        assert await reader.read() == b"mine"
        reader._eof = False
        reader._buffer.extend(b"last")
        with pytest.raises(BufferError), memoryview(reader._buffer):
            await reader.read(2)
        assert await reader.read(3) == b"las"

    run(main())


def test_a_limit_that_is_changed_holds(run, streams):
    async def main():
        reader = streams.StreamReader(limit=5)
        reader.feed_data(b"too long a line\nshort\n")
        with pytest.raises(ValueError, match="Separator is found, but chunk is longer than limit") as caught:
            await reader.readline()
        assert isinstance(caught.value.__context__, asyncio.LimitOverrunError)
        reader._limit = 2**70
        assert reader._limit > 1_000_000
        reader.feed_data(b"x" * 100_000 + b"\n")
        assert await reader.readline() == b"short\n"
        assert len(await reader.readline()) == 100_001
        for limit in (0, -1):
            with pytest.raises(ValueError, match="Limit cannot be <= 0"):
                streams.StreamReader(limit=limit)

    run(main())


def test_a_second_reader_is_refused(run, streams):
    async def main():
        reader = streams.StreamReader()
        first = asyncio.ensure_future(reader.readline())
        await asyncio.sleep(0)
        for name, coroutine in [
            ("read", reader.read(1)),
            ("readexactly", reader.readexactly(1)),
            ("readuntil", reader.readline()),
        ]:
            with pytest.raises(RuntimeError, match=rf"^{name}\(\) called while another coroutine is already waiting"):
                await coroutine
        reader.feed_data(b"line\n")
        assert await first == b"line\n"

    run(main())


def test_a_reader_without_a_loop_takes_the_running_one(run, streams):
    async def main():
        assert streams.StreamReader()._loop is asyncio.get_running_loop()
        assert streams.StreamReaderProtocol(None)._loop is asyncio.get_running_loop()

    run(main())


def test_bytes_that_are_all_taken_are_not_copied(run):
    async def main():
        reader = ferrio.StreamReader()
        block = bytes(1000)
        reader.feed_data(block)
        assert await reader.read(1000) is block
        reader.feed_data(block)
        assert await reader.readexactly(1000) is block
        reader.feed_data(block)
        assert await reader.readexactly(999) == block[:999]
        assert await reader.read(10) == b"\0"

    run(main())
