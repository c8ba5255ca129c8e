"""Pipes that are connected: data, the end, and who owns the descriptor."""

import asyncio
import os

import pytest

from .support import Recorder, turns, within


def test_a_regular_file_is_no_pipe(run, loop, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")

    async def main():
        with open(path, "rb") as file:
            with pytest.raises(ValueError):
                await loop.connect_read_pipe(Recorder, file)
        with open(path, "ab") as file:
            with pytest.raises(ValueError):
                await loop.connect_write_pipe(Recorder, file)

    run(main())


def test_pipes_carry_data_and_the_end_of_it(run, loop):
    async def main():
        read_end, write_end = os.pipe()
        reader, reading = await loop.connect_read_pipe(Recorder, open(read_end, "rb", 0))
        writer, writing = await loop.connect_write_pipe(Recorder, open(write_end, "wb", 0))
        data = os.urandom(1 << 20)
        writer.write(data)
        assert writer.can_write_eof() is True
        writer.write_eof()
        assert await within(reading.lost) is None
        assert await within(writing.lost) is None
        assert reading.data == data
        assert reading.names[-2:] == ["eof_received", "connection_lost"]

    run(main())


def test_a_write_pipe_notices_that_its_reader_left(run, loop):
    async def main():
        read_end, write_end = os.pipe()
        writer, writing = await loop.connect_write_pipe(Recorder, open(write_end, "wb", 0))
        await asyncio.sleep(0.01)
        os.close(read_end)
        await within(writing.lost)

    run(main())


def test_the_same_pipe_may_be_connected_twice(run, loop):
    """What a program does that makes streams of both stdout and stderr, when they are one."""

    async def main():
        read_end, write_end = os.pipe()
        pipe = open(write_end, "wb", 0)
        first, _ = await loop.connect_write_pipe(Recorder, pipe)
        second, _ = await loop.connect_write_pipe(Recorder, pipe)
        first.write(b"one ")
        second.write(b"two")
        await turns(3)
        assert os.read(read_end, 100) == b"one two"
        first.abort()
        second.abort()
        await turns(3)
        os.close(read_end)

    run(main())


def test_closing_a_pipe_twice_closes_no_one_elses_descriptor(run, loop):
    async def main():
        read_end, write_end = os.pipe()
        transport, protocol = await loop.connect_read_pipe(Recorder, open(read_end, "rb", 0))
        transport.close()
        await within(protocol.lost)
        await turns(2)
        reused = os.open("/dev/null", os.O_RDONLY)
        assert reused == read_end
        transport.close()
        await turns(3)
        os.fstat(reused)
        os.close(reused)
        os.close(write_end)

    run(main())
