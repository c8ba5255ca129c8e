"""`connect_write_pipe`: pipes, sockets and terminals that are written to."""

import asyncio
import os
import socket

import pytest

from .support import Recorder, turns, within


def fill(file):
    """Fills the pipe, whose kernel buffer is 64 KiB on Linux, and says how much it took."""
    os.set_blocking(file.fileno(), False)
    size = 0
    try:
        while True:
            size += os.write(file.fileno(), b"x" * 4096)
    except BlockingIOError:
        return size


def test_writes_leave_at_once_and_in_order(loop, ends):
    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, ends[1])
        transport.write(b"bytes ")
        changing = bytearray(b"bytearray ")
        transport.write(changing)
        changing[:] = b"----------"
        transport.write(memoryview(b"..memoryview")[2:])
        transport.writelines([b" one", bytearray(b" two")])
        transport.write(b"")
        assert os.read(ends[0].fileno(), 100) == b"bytes bytearray memoryview one two"
        assert transport.get_write_buffer_size() == 0
        transport.close()
        assert await within(protocol.lost) is None

    loop.run_until_complete(main())


def test_what_the_kernel_does_not_take_waits_and_the_protocol_is_paused_and_resumed(loop, ends):
    data = os.urandom(1 << 20)

    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, ends[1])
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        mutable = bytearray(data)
        transport.write(mutable)
        mutable[:] = bytes(len(mutable))
        waiting = transport.get_write_buffer_size()
        assert 0 < waiting < len(data)
        assert protocol.names == ["connection_made", "pause_writing"]
        received = b""
        os.set_blocking(ends[0].fileno(), False)
        while len(received) < len(data):
            try:
                received += os.read(ends[0].fileno(), 65536)
            except BlockingIOError:
                await asyncio.sleep(0.001)
        await turns()
        assert received == data
        assert protocol.names == ["connection_made", "pause_writing", "resume_writing"]
        transport.close()
        await within(protocol.lost)

    loop.run_until_complete(main())


def test_a_write_to_a_full_pipe_waits_whole(loop, ends):
    filled = fill(ends[1])

    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, ends[1])
        transport.write(b"after")
        assert transport.get_write_buffer_size() == 5
        transport.write(b"wards")
        assert transport.get_write_buffer_size() == 10
        received = b""
        while len(received) < filled + 10:
            received += os.read(ends[0].fileno(), 65536)
            await turns()
        assert received.endswith(b"xafterwards")
        transport.close()
        await within(protocol.lost)

    loop.run_until_complete(main())


@pytest.mark.parametrize(
    "arguments, limits",
    [({}, (16384, 65536)), ({"high": 100}, (25, 100)), ({"low": 100}, (100, 400)), ({"high": 0}, (0, 0))],
)
def test_the_water_marks_can_be_set(loop, ends, arguments, limits):
    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, ends[1])
        transport.set_write_buffer_limits(**arguments)
        assert transport.get_write_buffer_limits() == limits
        for wrong in ({"high": 1, "low": 2}, {"high": -1}, {"low": -1}):
            with pytest.raises(ValueError, match="must be >="):
                transport.set_write_buffer_limits(**wrong)
        transport.close()
        await within(protocol.lost)

    loop.run_until_complete(main())


def test_closing_flushes_what_waits(loop, ends):
    filled = fill(ends[1])

    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, ends[1])
        transport.write(b"last words")
        assert transport.can_write_eof()
        transport.write_eof()
        transport.write_eof()
        transport.close()
        assert transport.is_closing()
        await asyncio.sleep(0.02)
        assert not protocol.lost.done()
        received = b""
        while not protocol.lost.done():
            received += os.read(ends[0].fileno(), 65536)
            await turns()
        received += os.read(ends[0].fileno(), 65536)
        assert len(received) == filled + 10 and received.endswith(b"last words")
        assert os.read(ends[0].fileno(), 1) == b""
        assert protocol.lost.result() is None

    loop.run_until_complete(main())


def test_aborting_throws_away_what_waits(loop, ends):
    fill(ends[1])

    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, ends[1])
        transport.write(b"never seen")
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        assert not protocol.lost.done()
        assert await within(protocol.lost) is None
        await turns()
        assert ends[1].closed

    loop.run_until_complete(main())


def test_aborting_while_closing_ends_it(loop, ends):
    fill(ends[1])

    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, ends[1])
        transport.write(b"never seen")
        transport.close()
        await turns()
        assert not protocol.lost.done()
        transport.abort()
        assert await within(protocol.lost) is None

    loop.run_until_complete(main())


def test_writes_after_closing_are_dropped_with_a_warning_after_some(loop, ends, caplog):
    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, ends[1])
        transport.close()
        for _ in range(5):
            transport.write(b"x")
        assert not caplog.records
        transport.write(b"x")
        assert "pipe closed by peer" in caplog.text
        await within(protocol.lost)

    loop.run_until_complete(main())


def test_a_writer_hears_at_once_that_its_reader_left(loop, ends):
    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, ends[1])
        ends[0].close()
        assert await within(protocol.lost) is None
        assert transport.is_closing()

    loop.run_until_complete(main())


def test_a_writer_with_data_left_hears_of_a_broken_pipe(loop, ends):
    fill(ends[1])

    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, ends[1])
        transport.write(b"never read")
        ends[0].close()
        assert isinstance(await within(protocol.lost), BrokenPipeError)

    loop.run_until_complete(main())


def test_writing_to_a_pipe_without_a_reader_ends_the_connection(loop, ends):
    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, ends[1])
        ends[0].close()
        transport.write(b"x")
        lost = await within(protocol.lost)
        assert isinstance(lost, BrokenPipeError)
        assert lost.errno is not None

    loop.run_until_complete(main())


def test_the_write_end_of_a_socket_hears_that_the_other_end_closed(loop):
    async def main():
        ours, peer = socket.socketpair()
        transport, protocol = await loop.connect_write_pipe(Recorder, ours)
        transport.write(b"hello")
        assert peer.recv(10) == b"hello"
        peer.close()
        assert await within(protocol.lost) is None
        await turns()
        assert ours.fileno() == -1

    loop.run_until_complete(main())


@pytest.mark.parametrize("wrong", ["text", None, 3, [b"x"]])
def test_what_is_no_bytes_is_refused(loop, ends, wrong):
    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, ends[1])
        with pytest.raises(AssertionError):
            transport.write(wrong)
        transport.close()
        await within(protocol.lost)

    loop.run_until_complete(main())


def test_exceptions_of_flow_control_are_reported(loop, ends):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    class Failing(Recorder):
        def pause_writing(self):
            raise ArithmeticError("pause")

        def resume_writing(self):
            raise ArithmeticError("resume")

    filled = fill(ends[1])

    async def main():
        transport, protocol = await loop.connect_write_pipe(Failing, ends[1])
        transport.set_write_buffer_limits(high=0)
        transport.write(b"x")
        received = 0
        while received < filled + 1:
            received += len(os.read(ends[0].fileno(), 65536))
            await turns()
        transport.close()
        await within(protocol.lost)

    loop.run_until_complete(main())
    assert [context["message"] for context in contexts] == [
        "protocol.pause_writing() failed",
        "protocol.resume_writing() failed",
    ]
