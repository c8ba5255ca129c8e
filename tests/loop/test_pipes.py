"""connect_read_pipe and connect_write_pipe: pipes, sockets and terminals, each test on asyncio's loop and on ferrio's."""

import asyncio
import gc
import os
import pty
import socket
import tty
import warnings
from contextvars import ContextVar

import ferrio
import pytest


@pytest.fixture
def tells(new_loop):
    """For tests that ask a pipe whether it reads."""
    known = asyncio.unix_events._UnixReadPipeTransport.is_reading is not asyncio.ReadTransport.is_reading
    if not known and new_loop is asyncio.SelectorEventLoop:
        pytest.skip("early versions of 3.11 have pipes that cannot tell whether they read")


class Recorder(asyncio.Protocol):
    """Writes down what it is told."""

    def __init__(self):
        self.calls = []
        self.data = b""
        self.lost = asyncio.get_running_loop().create_future()
        self.transport = None

    @property
    def names(self):
        return [name for name, *_ in self.calls]

    def connection_made(self, transport):
        self.transport = transport
        self.calls.append(("connection_made", transport))

    def data_received(self, data):
        assert type(data) is bytes
        self.data += data
        self.calls.append(("data_received", data))

    def eof_received(self):
        self.calls.append(("eof_received",))

    def connection_lost(self, exc):
        self.calls.append(("connection_lost", exc))
        self.lost.set_result(exc)

    def pause_writing(self):
        self.calls.append(("pause_writing",))

    def resume_writing(self):
        self.calls.append(("resume_writing",))


@pytest.fixture
def ends():
    """The two ends of a pipe as file objects, closed afterwards."""
    reader, writer = os.pipe()
    files = open(reader, "rb", 0), open(writer, "wb", 0)
    yield files
    for file in files:
        file.close()


async def within(awaitable, seconds=5):
    return await asyncio.wait_for(awaitable, seconds)


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


def fill(file):
    """Fills the pipe, whose kernel buffer is 64 KiB on Linux, and says how much it took."""
    os.set_blocking(file.fileno(), False)
    size = 0
    try:
        while True:
            size += os.write(file.fileno(), b"x" * 4096)
    except BlockingIOError:
        return size


# --- reading ---------------------------------------------------------------------------------------------------------


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


# --- writing ---------------------------------------------------------------------------------------------------------


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


# --- both ------------------------------------------------------------------------------------------------------------


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
