"""`connect_read_pipe`: pipes, sockets and terminals that are read."""

import asyncio
import os
import pty
import tty

import pytest

from .support import Recorder, turns, within


@pytest.mark.usefixtures("tells")
def test_a_reader_hears_of_data_of_the_end_and_of_the_loss_in_this_order(loop, ends):
    async def main():
        transport, protocol = await loop.connect_read_pipe(Recorder, ends[0])
        assert protocol.calls == [("connection_made", transport)]
        os.write(ends[1].fileno(), b"some")
        await asyncio.sleep(0.01)
        os.write(ends[1].fileno(), b" data")
        await asyncio.sleep(0.01)
        assert protocol.data == b"some data"
        ends[1].close()
        assert await within(protocol.lost) is None
        assert protocol.names == [
            "connection_made",
            "data_received",
            "data_received",
            "eof_received",
            "connection_lost",
        ]
        await turns()
        assert ends[0].closed
        assert transport.is_closing() and not transport.is_reading()

    loop.run_until_complete(main())


@pytest.mark.usefixtures("tells")
def test_a_paused_reader_loses_nothing(loop, ends):
    async def main():
        transport, protocol = await loop.connect_read_pipe(Recorder, ends[0])
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        os.write(ends[1].fileno(), b"kept")
        await asyncio.sleep(0.02)
        assert protocol.data == b""
        transport.resume_reading()
        transport.resume_reading()
        await asyncio.sleep(0.02)
        assert protocol.data == b"kept"
        transport.close()
        assert not transport.is_reading()
        transport.pause_reading()
        transport.resume_reading()
        await within(protocol.lost)

    loop.run_until_complete(main())


def test_pausing_within_data_received_stops_before_the_next_piece(loop, ends):
    class Pausing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async def main():
        transport, protocol = await loop.connect_read_pipe(Pausing, ends[0])
        os.write(ends[1].fileno(), b"one")
        await asyncio.sleep(0.01)
        os.write(ends[1].fileno(), b"two")
        await asyncio.sleep(0.02)
        assert protocol.data == b"one"
        transport.resume_reading()
        await asyncio.sleep(0.02)
        assert protocol.data == b"onetwo"
        transport.close()
        await within(protocol.lost)

    loop.run_until_complete(main())


@pytest.mark.usefixtures("tells")
def test_pausing_before_the_reading_has_begun_holds(loop, ends):
    class Paused(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main():
        os.write(ends[1].fileno(), b"early")
        transport, protocol = await loop.connect_read_pipe(Paused, ends[0])
        await asyncio.sleep(0.02)
        assert protocol.data == b""
        transport.resume_reading()
        await asyncio.sleep(0.02)
        assert protocol.data == b"early"
        transport.close()
        await within(protocol.lost)

    loop.run_until_complete(main())


def test_an_exception_in_data_received_is_reported_and_reading_goes_on(loop, ends):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    class Failing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if data == b"bad":
                raise ArithmeticError("bad data")

    async def main():
        transport, protocol = await loop.connect_read_pipe(Failing, ends[0])
        os.write(ends[1].fileno(), b"bad")
        await asyncio.sleep(0.02)
        os.write(ends[1].fileno(), b"good")
        await asyncio.sleep(0.02)
        assert protocol.data == b"badgood"
        transport.close()
        await within(protocol.lost)

    loop.run_until_complete(main())
    assert [type(context["exception"]) for context in contexts] == [ArithmeticError]


def test_an_exception_in_connection_made_is_reported_and_the_pipe_is_connected(loop, ends):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    class Failing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise ArithmeticError

    async def main():
        transport, protocol = await loop.connect_read_pipe(Failing, ends[0])
        os.write(ends[1].fileno(), b"data")
        await asyncio.sleep(0.02)
        assert protocol.data == b"data"
        transport.close()
        await within(protocol.lost)

    loop.run_until_complete(main())
    assert [type(context["exception"]) for context in contexts] == [ArithmeticError]


def test_a_read_error_ends_the_connection_with_that_error(loop, ends):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    async def main():
        transport, protocol = await loop.connect_read_pipe(Recorder, ends[0])
        directory = os.open("/", os.O_RDONLY)
        # Reading a directory fails; the watched pipe stays open under another number, and readable.
        kept = os.dup(ends[0].fileno())
        os.dup2(directory, ends[0].fileno())
        os.close(directory)
        os.write(ends[1].fileno(), b"x")
        lost = await within(protocol.lost)
        os.close(kept)
        return transport, protocol, lost

    transport, protocol, lost = loop.run_until_complete(main())
    assert isinstance(lost, IsADirectoryError)
    assert contexts[0]["message"] == "Fatal read error on pipe transport"
    assert contexts[0]["exception"] is lost
    assert (contexts[0]["transport"], contexts[0]["protocol"]) == (transport, protocol)


def test_a_terminal_is_read_and_its_end_is_told(loop):
    async def main():
        parent, child = pty.openpty()
        tty.setraw(child)
        transport, protocol = await loop.connect_read_pipe(Recorder, open(parent, "rb", 0))
        os.write(child, b"typed")
        await asyncio.sleep(0.02)
        assert protocol.data == b"typed"
        os.close(child)
        lost = await within(protocol.lost)
        assert lost is None or isinstance(lost, OSError)
        assert transport.is_closing()

    loop.run_until_complete(main())


def test_a_stream_reader_reads_lines_from_a_pipe(loop, ends):
    async def main():
        reader = asyncio.StreamReader(limit=1024)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), ends[0])
        lines = [b"%d\n" % number for number in range(5000)]

        def write():
            with ends[1] as file:
                os.set_blocking(file.fileno(), True)
                file.write(b"".join(lines))

        writing = asyncio.create_task(asyncio.to_thread(write))
        assert [line async for line in reader] == lines
        await writing
        transport.close()
        await turns()

    loop.run_until_complete(main())
