"""Streams: what programs and libraries rely on, with asyncio's own classes and with ferrio's, on asyncio's loop and on ferrio's.

What a reader does with any sequence of calls is compared in test_streams_model.py.
"""

import asyncio
import contextlib
import contextvars
import gc
import socket
import sys
import warnings
import weakref

import ferrio
import pytest

LOOPS = {"stock": asyncio.SelectorEventLoop, "ferrio": ferrio.new_event_loop}
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


@pytest.fixture(params=LOOPS.values(), ids=LOOPS)
def run(request):
    """Runs a coroutine on each loop; what it leaves to the loop's exception handler fails the test, unless it is expected."""
    reported = []

    def run(main, *, expect=()):
        async def guarded():
            asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
            return await asyncio.wait_for(main, 20)

        with asyncio.Runner(loop_factory=request.param) as runner:
            result = runner.run(guarded())
        gc.collect()
        assert [context["message"] for context in reported] == list(expect), reported
        return result

    run.reported = reported
    return run


@pytest.fixture(params=[asyncio, ferrio], ids=["asyncio", "ferrio"])
def streams(request):
    return request.param


@contextlib.asynccontextmanager
async def served(streams, handle, **options):
    """A server on a free port, and a function that connects to it."""
    server = await streams.start_server(handle, "127.0.0.1", 0, **options)
    address = server.sockets[0].getsockname()

    async def connect(**options):
        return await streams.open_connection(*address, **options)

    try:
        yield connect
    finally:
        server.close()
        await server.wait_closed()


async def close(writer):
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def echo(reader, writer):
    while block := await reader.read(65536):
        writer.write(block)
        await writer.drain()
    await close(writer)


class Recorder(asyncio.Transport):
    """A transport that notes its calls."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.closing = False

    def write(self, data):
        self.calls.append(("write", bytes(data)))

    def pause_reading(self):
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True


# --- over a connection ----------------------------------------------------------------------------------------------------


def test_an_echo_of_lines_blocks_and_the_end(run, streams):
    async def main():
        async with served(streams, echo) as connect:
            reader, writer = await connect()
            writer.write(b"one\ntwo\n")
            writer.writelines([b"three", bytearray(b"\n"), memoryview(b"four")])
            await writer.drain()
            assert await reader.readline() == b"one\n"
            assert await reader.readuntil(b"o") == b"two"
            assert await reader.readexactly(7) == b"\nthree\n"
            assert writer.can_write_eof()
            writer.write_eof()
            assert await reader.read() == b"four"
            assert reader.at_eof()
            assert await reader.read() == await reader.readline() == await reader.read(3) == b""
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await reader.readexactly(2)
            assert (caught.value.partial, caught.value.expected) == (b"", 2)
            await close(writer)
            assert writer.is_closing()

    run(main())


@pytest.mark.parametrize("size", [1, 1_000, 70_000, 1_000_000, 5_000_000])
def test_a_block_larger_than_every_limit_arrives_whole_and_the_sender_waits(run, streams, size):
    block = bytes(range(256)) * (size // 256) + bytes(size % 256)

    async def main():
        async with served(streams, echo) as connect:
            reader, writer = await connect(limit=4096)

            async def send():
                for start in range(0, size, 100_000):
                    writer.write(block[start : start + 100_000])
                    await writer.drain()

            sending = asyncio.ensure_future(send())
            assert await reader.readexactly(size) == block
            await sending
            await close(writer)

    run(main())


def test_a_slow_reader_holds_the_sender_up(run, streams):
    async def main():
        received = []
        may_read = asyncio.Event()

        async def slow(reader, writer):
            # Nothing is read for a while: what may wait here is little.
            await may_read.wait()
            received.append(reader._paused)
            while block := await reader.read(10_000):
                received.append(len(block))
            await close(writer)

        async with served(streams, slow, limit=1000) as connect:
            _, writer = await connect()
            writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
            writer.write(bytes(8_000_000))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(writer.drain(), 0.05)
            may_read.set()
            await writer.drain()
            await close(writer)
            while sum(received[1:]) < 8_000_000:
                await asyncio.sleep(0.01)
            assert received[0] is True

    run(main())


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
def test_unix_sockets(run, streams, tmp_path):
    async def main():
        server = await streams.start_unix_server(echo, tmp_path / "socket")
        reader, writer = await streams.open_unix_connection(tmp_path / "socket")
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        await close(writer)
        server.close()
        await server.wait_closed()

    run(main())


def test_another_protocol_takes_the_connection_over_and_gives_it_back(run, streams):
    class Collector(asyncio.Protocol):
        def __init__(self):
            self.data = asyncio.get_running_loop().create_future()

        def data_received(self, data):
            self.data.set_result(data)

    async def main():
        async with served(streams, echo) as connect:
            reader, writer = await connect()
            transport, protocol = writer.transport, writer.transport.get_protocol()
            collector = Collector()
            transport.set_protocol(collector)
            writer.write(b"for the other")
            assert await collector.data == b"for the other"
            transport.set_protocol(protocol)
            writer.write(b"for the reader")
            assert await reader.read(100) == b"for the reader"
            await close(writer)

    run(main())


def test_child_processes(run, streams):
    async def main():
        program = "import sys; data = sys.stdin.read(); print(data.upper()); print(len(data), file=sys.stderr)"
        pipe = asyncio.subprocess.PIPE
        process = await streams.create_subprocess_exec(
            sys.executable, "-c", program, stdin=pipe, stdout=pipe, stderr=pipe
        )
        assert await process.communicate(b"word " * 100_000) == (b"WORD " * 100_000 + b"\n", b"500000\n")
        assert process.returncode == 0
        process = await streams.create_subprocess_shell("echo one; echo two; exit 3", stdout=pipe)
        assert [line async for line in process.stdout] == [b"one\n", b"two\n"]
        assert await process.wait() == 3
        assert isinstance(process, asyncio.subprocess.Process)
        assert isinstance(process.stdout, streams.StreamReader)

    run(main())


# --- servers' callbacks ---------------------------------------------------------------------------------------------------


def test_a_servers_coroutine_is_a_task_that_lives_as_long_as_it_takes(run, streams):
    async def main():
        finished = asyncio.get_running_loop().create_future()

        async def handle(reader, writer):
            # Nobody but the connection knows of what is waited for.
            assert await reader.readline() == b"go on\n"
            await close(writer)
            finished.set_result(None)

        async with served(streams, handle) as connect:
            reader, writer = await connect()
            await asyncio.sleep(0.01)
            gc.collect()
            writer.write(b"go on\n")
            await finished
            await close(writer)

    run(main())


def skip_if_asyncios_drop_it(streams):
    if streams is asyncio and sys.version_info < (3, 11, 7):
        pytest.skip("early versions of 3.11 say nothing of it, and leave the connection open")


def test_a_servers_coroutine_that_fails_is_reported_and_its_connection_closed(run, streams):
    skip_if_asyncios_drop_it(streams)

    async def fails(reader, writer):
        await reader.readline()
        raise ZeroDivisionError("in the callback")

    async def main():
        async with served(streams, fails) as connect:
            reader, writer = await connect()
            writer.write(b"\n")
            assert await reader.read() == b""
            await close(writer)

    run(main(), expect=["Unhandled exception in client_connected_cb"])
    [context] = run.reported
    assert str(context["exception"]) == "in the callback"
    assert "transport" in context


def test_a_failed_servers_coroutine_is_reported_in_the_context_of_its_connection(run, streams):
    skip_if_asyncios_drop_it(streams)

    name, seen = contextvars.ContextVar("name"), []

    async def fails(reader, writer):
        name.set("the task's own")
        await reader.readline()
        raise ZeroDivisionError

    async def main():
        name.set("the server's")
        async with served(streams, fails) as connect:
            reader, writer = await connect()
            loop = asyncio.get_running_loop()
            noting = loop.get_exception_handler()
            loop.set_exception_handler(lambda *report: (seen.append(name.get()), noting(*report)))
            name.set("the client's")
            writer.write(b"\n")
            assert await reader.read() == b""
            await close(writer)

    run(main(), expect=["Unhandled exception in client_connected_cb"])
    assert seen == ["the server's"]


def test_a_servers_cancelled_coroutine_closes_its_connection_and_says_nothing(run):
    async def main():
        tasks = []

        async def handle(reader, writer):
            tasks.append(asyncio.current_task())
            await reader.readline()

        async with served(ferrio, handle) as connect:
            reader, writer = await connect()
            while not tasks:
                await asyncio.sleep(0)
            tasks[0].cancel()
            assert await reader.read() == b""
            await close(writer)

    run(main())


def test_a_servers_plain_callback_that_fails_is_reported_and_its_connection_closed(run):
    # asyncio does so from 3.14 on; ferrio on every version.
    def fails(reader, writer):
        raise ZeroDivisionError("in the callback")

    async def main():
        async with served(ferrio, fails) as connect:
            reader, writer = await connect()
            assert await reader.read() == b""
            await close(writer)

    run(main(), expect=["Unhandled exception in client_connected_cb"])


def test_the_protocol_keeps_no_reader_alive(run, streams):
    async def main():
        async with served(streams, echo) as connect:
            reader, writer = await connect()
            transport = writer.transport
            known = weakref.ref(reader)
            writer._reader = None
            del reader
            gc.collect()
            assert known() is None
            # What arrives for nobody is dropped.
            writer.write(b"hello?")
            await asyncio.sleep(0.02)
            transport.abort()
            await asyncio.sleep(0.01)

    run(main())


# --- writers --------------------------------------------------------------------------------------------------------------


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


# --- who looks inside, overrides, mixes -------------------------------------------------------------------------------------


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


def test_what_a_subclass_overrides_is_called(run, streams):
    class Reader(streams.StreamReader):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.fed = []

        def feed_data(self, data):
            self.fed.append(bytes(data))
            super().feed_data(data.upper())

    class Protocol(streams.StreamReaderProtocol):
        received = b""

        def data_received(self, data):
            self.received += data
            super().data_received(data)

    async def connect(address, reader, make_protocol):
        loop = asyncio.get_running_loop()
        protocol = make_protocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, *address)
        return protocol, streams.StreamWriter(transport, protocol, reader, loop)

    async def main():
        server = await streams.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        reader = Reader()
        _, writer = await connect(address, reader, streams.StreamReaderProtocol)
        writer.write(b"hello\n")
        assert await reader.readline() == b"HELLO\n"
        assert reader.fed == [b"hello\n"]
        await close(writer)
        reader = streams.StreamReader()
        protocol, writer = await connect(address, reader, Protocol)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        assert protocol.received == b"hello\n"
        await close(writer)
        server.close()
        await server.wait_closed()

    run(main())


def test_a_method_that_asyncio_calls_by_others_is_called_by_them(run, streams):
    class Reader(streams.StreamReader):
        calls = ()

        async def readuntil(self, separator=b"\n"):
            self.calls += ("readuntil",)
            return await super().readuntil(separator)

        async def _wait_for_data(self, func_name):
            self.calls += (func_name,)
            await super()._wait_for_data(func_name)

    async def main():
        reader = Reader()
        reader.feed_data(b"one\n")
        assert await reader.readline() == b"one\n"
        asyncio.get_running_loop().call_soon(reader.feed_data, b"two\n")
        assert await reader.readline() == b"two\n"
        reader.feed_data(b"three\n")
        assert await reader.__anext__() == b"three\n"
        assert reader.calls == ("readuntil", "readuntil", "readuntil", "readuntil")
        asyncio.get_running_loop().call_soon(reader.feed_data, b"end")
        assert await reader.readexactly(3) == b"end"
        assert reader.calls[4:] == ("readexactly",)

    run(main())


def test_a_subclass_need_not_take_asyncios_arguments(run, streams):
    class Reader(streams.StreamReader):
        def __init__(self, name, *, limit=10):
            super().__init__(limit=limit)
            self.name = name

    class Protocol(streams.StreamReaderProtocol):
        def __init__(self, name):
            super().__init__(Reader(name), self.connected)

        def connected(self, reader, writer):
            self.writer = writer

    async def main():
        protocol = Protocol("one")
        transport = Recorder()
        protocol.connection_made(transport)
        assert protocol._stream_reader.name == "one"
        assert protocol.writer.transport is transport
        assert isinstance(protocol.writer, streams.StreamWriter)
        transport.closing = True

    run(main())


@pytest.mark.parametrize(
    "readers, protocols, writers", [(asyncio, ferrio, ferrio), (ferrio, asyncio, ferrio), (ferrio, ferrio, asyncio)]
)
def test_ferrios_and_asyncios_classes_work_together(run, readers, protocols, writers):
    async def main():
        server = await ferrio.start_server(echo, "127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        reader = readers.StreamReader(limit=100, loop=loop)
        protocol = protocols.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, *server.sockets[0].getsockname())
        writer = writers.StreamWriter(transport, protocol, reader, loop)
        writer.write(b"hello\n")
        await writer.drain()
        assert await reader.readline() == b"hello\n"
        writer.write(b"x" * 300_000)
        await writer.drain()
        assert await reader.readexactly(300_000) == b"x" * 300_000
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        server.close()
        await server.wait_closed()

    run(main())


def test_a_plain_flow_control_protocol_serves_a_writer_of_a_pipe(run, streams):
    # The usual recipe for an asynchronous standard output.
    async def main():
        loop = asyncio.get_running_loop()
        if type(loop).__module__ == "uvloop":
            pytest.skip("uvloop closes the descriptor and not the file that owns it: what then closes the file fails")
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with theirs:
            transport, protocol = await loop.connect_write_pipe(
                lambda: asyncio.streams.FlowControlMixin(loop=loop), ours.makefile("wb", 0)
            )
            writer = streams.StreamWriter(transport, protocol, None, loop)
            writer.write(b"hello")
            await writer.drain()
            assert await loop.sock_recv(theirs, 10) == b"hello"
            writer.close()
            await asyncio.sleep(0)
        ours.close()

    run(main())


def test_instances_count_as_asyncios_and_asyncios_as_ferrios(run):
    async def main():
        for name in ("StreamReader", "StreamReaderProtocol"):
            arguments = [asyncio.StreamReader()] if name.endswith("Protocol") else []
            ours, theirs = getattr(ferrio, name), getattr(asyncio, name)
            assert isinstance(ours(*arguments), theirs)
            assert isinstance(theirs(*arguments), ours)
        assert issubclass(ferrio.StreamWriter, asyncio.StreamWriter)
        assert isinstance(ferrio.StreamReaderProtocol(None), asyncio.Protocol)

    run(main())


def test_reprs_are_asyncios(run):
    async def main():
        descriptions = []
        for streams in (asyncio, ferrio):
            reader = streams.StreamReader(limit=123)
            reader.feed_data(b"abc")
            reader.set_exception(ValueError("wrong"))
            reader.feed_eof()
            descriptions.append(repr(reader))
        assert descriptions[0] == descriptions[1]

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


def test_nothing_is_left_of_a_connection_that_has_ended(run, streams):
    async def main():
        left = []

        async def handle(reader, writer):
            left.extend([weakref.ref(reader), weakref.ref(writer), weakref.ref(writer.transport.get_protocol())])
            await echo(reader, writer)

        async with served(streams, handle) as connect:
            for _ in range(3):
                reader, writer = await connect()
                writer.write(b"hello")
                await reader.readexactly(5)
                left.extend([weakref.ref(reader), weakref.ref(writer), weakref.ref(writer.transport.get_protocol())])
                await close(writer)
            del reader, writer
        await asyncio.sleep(0.01)
        gc.collect()
        assert [one() for one in left if one() is not None] == []

    run(main())
