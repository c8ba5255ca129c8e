"""TLS: layers over layers, upgrades, flow control, and every way in which a connection can end."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import socket
import ssl
import threading
import time
import warnings
import weakref

import pytest

from ..tcp import tcp_pair

ferrio_only = pytest.mark.parametrize("new_loop", ["ferrio"], indirect=True)


@pytest.fixture
def run(new_loop):
    """Run a coroutine on a fresh loop; what reaches the exception handler goes into the list that it returns."""

    def run(main, **keywords):
        errors = []

        async def bounded():
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
            async with asyncio.timeout(20):
                await main()
            await turns(3)

        with asyncio.Runner(loop_factory=new_loop, **keywords) as runner:
            runner.run(bounded())
        return errors

    return run


class Recorder(asyncio.Protocol):
    """Writes down what it is told."""

    def __init__(self):
        self.calls = []
        self.data = bytearray()
        self.transport = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.calls.append("made")

    def data_received(self, data):
        assert type(data) is bytes and data
        self.calls.append("data")
        self.data += data

    def eof_received(self):
        self.calls.append("eof")

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")

    def connection_lost(self, exc):
        self.calls.append("lost")
        self.lost.set_result(exc)


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def connected_pair():
    """Two ends of a TCP connection."""
    ours, theirs = tcp_pair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


async def connect(server_tls, client_tls, server=Recorder, client=Recorder, **options):
    """The protocols of both ends, (server, client), each with its transport."""
    loop = asyncio.get_running_loop()
    ours, theirs = connected_pair()
    (_, client), (_, server) = await asyncio.gather(
        loop.create_connection(client, sock=ours, ssl=client_tls, server_hostname="localhost", **options),
        loop.connect_accepted_socket(server, theirs, ssl=server_tls, **options),
    )
    return server, client


async def with_blocking_peer(server_tls, client_tls, protocol=Recorder, **options):
    """A client's protocol, and the other end as a blocking SSL socket."""
    loop = asyncio.get_running_loop()
    ours, theirs = connected_pair()
    theirs.settimeout(10)
    wrapping = loop.run_in_executor(None, lambda: server_tls.wrap_socket(theirs, server_side=True))
    connecting = loop.create_connection(protocol, sock=ours, ssl=client_tls, server_hostname="localhost", **options)
    (_, protocol), peer = await asyncio.gather(connecting, wrapping)
    return protocol, peer


async def close_both(*protocols):
    for protocol in protocols:
        protocol.transport.close()
    for protocol in protocols:
        await protocol.lost


# --- what a transport is ---------------------------------------------------------------------------------------------


def test_a_tls_transport_is_an_asyncio_transport(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        transport = client.transport
        assert isinstance(transport, asyncio.Transport)
        assert "SSL" in type(transport).__name__
        assert transport.get_protocol() is client
        assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
        assert transport.is_reading() and not transport.is_closing()
        await close_both(server, client)
        assert transport.is_closing()

    assert run(main) == []


def test_what_a_tls_transport_writes_must_be_bytes(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got str"):
            client.transport.write("text")
        for data in b"1", bytearray(b"2"), memoryview(b"3"), b"":
            client.transport.write(data)
        client.transport.writelines([b"4", b"", bytearray(b"5")])
        await until(lambda: server.data == b"12345")
        await close_both(server, client)

    assert run(main) == []


def test_extra_information_comes_from_both_layers(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        ask = client.transport.get_extra_info
        assert ask("ssl_object").version() == "TLSv1.3"
        assert ask("sslcontext") is client_tls
        assert ask("cipher") == ask("ssl_object").cipher()
        assert ask("peername") == server.transport.get_extra_info("sockname")
        assert ask("peercert")["subjectAltName"] == (("DNS", "localhost"),)
        assert server.transport.get_extra_info("peercert") is None
        assert server.transport.get_extra_info("peercert", "default") is None
        assert ask("nonsense") is None and ask("nonsense", 1) == 1
        await close_both(server, client)
        # What TLS knows stays; what the socket knew went with it.
        assert ask("sslcontext") is client_tls
        assert ask("ssl_object").version() == "TLSv1.3"
        assert ask("peername") is None

    assert run(main) == []


@pytest.mark.parametrize("low, high", [(-1, None), (10, 5)])
def test_water_marks_must_make_sense(run, server_tls, client_tls, low, high):
    async def main():
        server, client = await connect(server_tls, client_tls)
        for setter in client.transport.set_write_buffer_limits, client.transport.set_read_buffer_limits:
            with pytest.raises(ValueError, match="must be >= low"):
                setter(high=high, low=low)
        await close_both(server, client)

    assert run(main) == []


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_timeouts_must_be_positive(run, client_tls, name):
    async def main():
        ours, theirs = connected_pair()
        with ours, theirs, pytest.raises(ValueError, match=f"{name} should be a positive number, got -0.5"):
            connecting = asyncio.get_running_loop().create_connection
            await connecting(Recorder, sock=ours, ssl=client_tls, server_hostname="localhost", **{name: -0.5})

    assert run(main) == []


def test_a_server_needs_a_context(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = connected_pair()
        with ours, theirs, pytest.raises(ValueError, match="Server side SSL needs a valid SSLContext"):
            await loop.connect_accepted_socket(Recorder, ours, ssl=True)

    assert run(main) == []


def test_true_stands_for_the_default_context_which_distrusts_strangers(run, server_tls):
    async def main():
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(server_tls, True)

    run(main)


# --- layers ----------------------------------------------------------------------------------------------------------


def test_both_ends_of_a_connection_may_be_upgraded_in_the_middle_of_it(run, server_tls, client_tls):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = connected_pair()
        plain_client, client = await loop.create_connection(Recorder, sock=ours)
        plain_server, server = await loop.connect_accepted_socket(Recorder, theirs)
        plain_client.write(b"plain")
        await until(lambda: server.data == b"plain")
        client.transport, server.transport = await asyncio.gather(
            loop.start_tls(plain_client, client, client_tls, server_hostname="localhost"),
            loop.start_tls(plain_server, server, server_tls, server_side=True),
        )
        client.transport.write(b" secret")
        server.transport.write(b"answer")
        await until(lambda: server.data == b"plain secret" and client.data == b"answer")
        assert client.calls.count("made") == server.calls.count("made") == 1
        await close_both(client, server)
        assert client.calls == ["made", "data", "eof", "lost"] or client.calls == ["made", "data", "lost"]

    assert run(main) == []


def test_tls_runs_over_tls(run, server_tls, client_tls):
    async def main():
        loop = asyncio.get_running_loop()
        server, client = await connect(server_tls, client_tls)
        outer = client.transport
        client.transport, server.transport = await asyncio.gather(
            loop.start_tls(client.transport, client, client_tls, server_hostname="localhost"),
            loop.start_tls(server.transport, server, server_tls, server_side=True),
        )
        assert client.transport is not outer
        assert client.transport.get_extra_info("ssl_object") is not outer.get_extra_info("ssl_object")
        assert client.transport.get_extra_info("peername") == outer.get_extra_info("peername")
        data = os.urandom(3_000_000)
        client.transport.write(data)
        server.transport.write(data)
        await until(lambda: server.data == data and client.data == data)
        await close_both(client, server)
        assert outer.is_closing()

    assert run(main) == []


class Relay(asyncio.Transport, asyncio.Protocol):
    """A transport in Python, over another one."""

    _start_tls_compatible = True

    def __init__(self):
        super().__init__()
        self.upper = None

    def connection_made(self, transport):
        self.lower = transport

    def data_received(self, data):
        if isinstance(self.upper, asyncio.BufferedProtocol):
            self.upper.get_buffer(len(data))[: len(data)] = data
            self.upper.buffer_updated(len(data))
        else:
            self.upper.data_received(data)

    def eof_received(self):
        return self.upper.eof_received()

    def connection_lost(self, exc):
        self.upper.connection_lost(exc)

    def set_protocol(self, protocol):
        self.upper = protocol

    def write(self, data):
        self.lower.write(data)

    def pause_reading(self):
        self.lower.pause_reading()

    def resume_reading(self):
        self.lower.resume_reading()

    def is_closing(self):
        return self.lower.is_closing()

    def close(self):
        self.lower.close()

    def _force_close(self, exc):
        self.lower._force_close(exc)


def test_any_transport_that_says_so_can_be_upgraded(run, server_tls, client_tls):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = connected_pair()
        _, relay = await loop.create_connection(Relay, sock=ours)
        client = Recorder()
        client.transport, (_, server) = await asyncio.gather(
            loop.start_tls(relay, client, client_tls, server_hostname="localhost"),
            loop.connect_accepted_socket(Recorder, theirs, ssl=server_tls),
        )
        client.transport.write(b"through python")
        server.transport.write(b"and back")
        await until(lambda: server.data == b"through python" and client.data == b"and back")
        await close_both(client, server)

    assert run(main) == []


# --- flow control ----------------------------------------------------------------------------------------------------


def test_what_waits_for_a_paused_reader_is_bounded(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        client.transport.pause_reading()
        assert not client.transport.is_reading()
        data = os.urandom(16 << 20)
        for start in range(0, len(data), 1 << 20):
            server.transport.write(data[start : start + (1 << 20)])
        assert "pause" in server.calls
        await asyncio.sleep(0.1)
        assert "data" not in client.calls
        low, high = client.transport.get_read_buffer_limits()
        assert (low, high) == (64 * 1024, 256 * 1024)
        assert high <= client.transport.get_read_buffer_size() <= 2 * high
        client.transport.resume_reading()
        await until(lambda: client.data == data)
        assert client.transport.get_read_buffer_size() == 0
        assert server.calls == ["made", "pause", "resume"]
        await close_both(server, client)

    assert run(main) == []


def test_the_write_buffer_is_measured_and_its_marks_are_obeyed(run, server_tls, client_tls):
    async def main():
        protocol, peer = await with_blocking_peer(server_tls, client_tls)
        transport = protocol.transport
        transport.set_write_buffer_limits(high=1000, low=10)
        assert transport.get_write_buffer_limits() == (10, 1000)
        transport.write(b"short")
        assert transport.get_write_buffer_size() == 0
        size = 5
        while "pause" not in protocol.calls:
            transport.write(bytes(1 << 20))
            size += 1 << 20
            assert size < 100 << 20
        assert transport.get_write_buffer_size() >= 1000

        def drain():
            left = size
            while left:
                left -= len(peer.recv(1 << 20))

        await asyncio.get_running_loop().run_in_executor(None, drain)
        await until(lambda: transport.get_write_buffer_size() == 0)
        assert protocol.calls == ["made", "pause", "resume"]
        peer.close()
        await protocol.lost

    assert run(main) == []


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
def test_an_error_in_flow_control_is_reported_and_changes_nothing(run, server_tls, client_tls, name):
    boom = ValueError("on purpose")

    def fail(self):
        raise boom

    protocol_class = type("Protocol", (Recorder,), {name: fail})

    async def main():
        server, client = await connect(server_tls, client_tls, client=protocol_class)
        for _ in range(32):
            client.transport.write(bytes(1 << 20))
        await until(lambda: len(server.data) == 32 << 20)
        await close_both(server, client)

    [error] = run(main)
    assert error["exception"] is boom
    assert error["message"] == f"protocol.{name}() failed"


def test_pausing_twice_and_resuming_twice_is_harmless(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        for call in ["pause_reading"] * 2 + ["resume_reading"] * 2:
            getattr(client.transport, call)()
        server.transport.write(b"x")
        await until(lambda: client.data == b"x")
        await close_both(server, client)

    assert run(main) == []


# --- many writes, one record -----------------------------------------------------------------------------------------


@ferrio_only
def test_small_writes_of_one_turn_share_a_record(run, server_tls, client_tls):
    async def main():
        protocol, peer = await with_blocking_peer(server_tls, client_tls)
        for part in [b"head", b"er ", b"and ", b"body"]:
            protocol.transport.write(part)
        # recv() returns one record at most.
        assert await asyncio.get_running_loop().run_in_executor(None, peer.recv, 100) == b"header and body"
        peer.close()
        await protocol.lost

    assert run(main) == []


def test_what_is_written_between_two_runs_of_the_loop_leaves_at_once(new_loop, server_tls, client_tls):
    loop = new_loop()
    protocol, peer = loop.run_until_complete(with_blocking_peer(server_tls, client_tls))
    protocol.transport.write(b"now")
    assert peer.recv(100) == b"now"
    peer.close()
    loop.run_until_complete(protocol.lost)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_the_order_of_small_and_large_writes_is_kept(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        pieces = [os.urandom(size) for size in (1, 16_000, 400, 16_384, 70_000, 3, 1_000_000, 16_385, 65_536, 9)]
        for piece in pieces:
            client.transport.write(piece)
        await turns(2)
        client.transport.writelines(pieces)
        await until(lambda: server.data == b"".join(pieces) * 2)
        await close_both(server, client)

    assert run(main) == []


# --- protocols that misbehave ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, message",
    [
        ("data_received", "Fatal error on SSL protocol"),
        ("eof_received", "Error calling eof_received()"),
    ],
)
def test_an_error_in_the_protocol_is_fatal_and_reported(run, server_tls, client_tls, name, message):
    boom = ValueError("on purpose")

    def fail(self, *args):
        raise boom

    protocol_class = type("Protocol", (Recorder,), {name: fail})

    async def main():
        server, client = await connect(server_tls, client_tls, client=protocol_class)
        server.transport.write(b"x")
        server.transport.close()
        assert await client.lost is boom
        await server.lost

    [error] = run(main)
    assert error["exception"] is boom
    assert error["message"] == message


def test_an_error_in_connection_made_ends_the_connection_and_reaches_the_caller(run, server_tls, client_tls):
    boom = ValueError("on purpose")

    class Protocol(Recorder):
        def connection_made(self, transport):
            raise boom

    async def main():
        with pytest.raises(ValueError, match="on purpose"):
            await connect(server_tls, client_tls, client=Protocol)

    errors = run(main)
    assert boom in [error["exception"] for error in errors]


def test_a_keyboard_interrupt_in_the_protocol_leaves_the_loop(new_loop, server_tls, client_tls):
    class Protocol(Recorder):
        def data_received(self, data):
            raise KeyboardInterrupt

    loop = new_loop()
    server, client = loop.run_until_complete(connect(server_tls, client_tls, client=Protocol))
    server.transport.write(b"x")
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(5))
    server.transport.abort()
    client.transport.abort()
    loop.run_until_complete(asyncio.gather(server.lost, client.lost))
    loop.close()


def test_a_buffer_without_room_is_an_error(run, server_tls, client_tls, new_loop):
    if new_loop is asyncio.SelectorEventLoop:
        pytest.skip("asyncio takes it for the end of the stream")

    class Protocol(asyncio.BufferedProtocol):
        def __init__(self):
            self.lost = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint):
            return bytearray()

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def main():
        server, client = await connect(server_tls, client_tls, client=Protocol)
        server.transport.write(b"x")
        assert isinstance(await client.lost, RuntimeError)
        await server.lost

    [error] = run(main)
    assert "empty buffer" in str(error["exception"])


# --- the end ---------------------------------------------------------------------------------------------------------


def test_closing_in_connection_made_ends_in_good_order(run, server_tls, client_tls):
    class Hasty(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"bye")
            transport.close()

    async def main():
        server, client = await connect(server_tls, client_tls, server=Hasty)
        assert await client.lost is None
        assert await server.lost is None
        assert client.calls == ["made", "data", "eof", "lost"]
        assert client.data == b"bye"

    assert run(main) == []


@pytest.mark.parametrize("how", ["close", "abort"])
def test_ending_in_data_received_tells_the_protocol_once(run, server_tls, client_tls, how):
    class Protocol(Recorder):
        def data_received(self, data):
            super().data_received(data)
            getattr(self.transport, how)()

    async def main():
        server, client = await connect(server_tls, client_tls, client=Protocol)
        server.transport.write(b"x")
        await client.lost
        await server.lost
        await turns(5)
        assert client.calls.count("lost") == server.calls.count("lost") == 1

    assert run(main) == []


def test_connection_lost_does_not_come_from_inside_close(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        client.transport.abort()
        assert "lost" not in client.calls
        assert await client.lost is None
        await server.lost
        client.transport.write(b"late")
        client.transport.abort()
        client.transport.close()
        await turns(3)
        assert client.calls.count("lost") == 1

    assert run(main) == []


def test_a_closed_transport_can_still_be_asked(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        await close_both(server, client)
        transport = client.transport
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        assert transport.get_extra_info("socket", "gone") == "gone"
        assert transport.get_protocol() is None
        transport.pause_reading()
        transport.resume_reading()
        assert "SSL" in repr(transport)

    assert run(main) == []


def test_writes_to_an_ended_connection_are_warned_about(run, server_tls, client_tls, caplog):
    async def main():
        server, client = await connect(server_tls, client_tls)
        await close_both(server, client)
        for _ in range(10):
            client.transport.write(b"x")

    assert run(main) == []
    assert "SSL connection is closed" in [record.message for record in caplog.records]


def test_the_end_of_the_stream_waits_for_a_paused_reader(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        client.transport.pause_reading()
        server.transport.write(b"last words")
        await turns(3)
        # The socket's end without TLS's own.
        server.transport.abort()
        await server.lost
        await asyncio.sleep(0.05)
        assert client.calls == ["made"]
        client.transport.resume_reading()
        await client.lost
        assert client.data == b"last words"
        assert client.calls == ["made", "data", "eof", "lost"]

    assert run(main) == []


def test_the_end_of_the_socket_in_the_handshake_is_a_connection_reset(run, client_tls):
    async def main():
        ours, theirs = connected_pair()
        theirs.close()
        with pytest.raises(ConnectionResetError):
            connecting = asyncio.get_running_loop().create_connection
            await connecting(Recorder, sock=ours, ssl=client_tls, server_hostname="localhost")
        assert ours.fileno() == -1

    assert run(main) == []


def test_garbage_in_the_middle_of_a_connection_ends_it_with_an_ssl_error(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        with socket.socket(fileno=os.dup(server.transport.get_extra_info("socket").fileno())) as raw:
            raw.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert isinstance(await client.lost, ssl.SSLError)
        await server.lost

    # An OSError, hence no bug of the program's.
    assert run(main) == []


def test_a_cancelled_connection_closes_its_socket_even_before_the_handshake(run, new_loop, client_tls):
    if new_loop is asyncio.SelectorEventLoop:
        pytest.skip("asyncio goes on with the handshake, and closes the socket when that times out")

    async def main():
        ours, theirs = connected_pair()
        connecting = asyncio.get_running_loop().create_connection
        options = {"sock": ours, "ssl": client_tls, "server_hostname": "localhost"}
        task = asyncio.ensure_future(connecting(Recorder, **options))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns(4)
        assert ours.fileno() == -1
        theirs.close()

    assert run(main) == []


def test_a_cancelled_start_tls_closes_the_connection(run, client_tls):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = connected_pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        task = asyncio.ensure_future(loop.start_tls(transport, protocol, client_tls, server_hostname="localhost"))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.is_closing()
        await turns(4)
        assert ours.fileno() == -1
        theirs.close()

    assert run(main) == []


def test_a_peer_that_does_not_read_cannot_keep_a_closing_connection(run, server_tls, client_tls):
    async def main():
        protocol, peer = await with_blocking_peer(server_tls, client_tls, ssl_shutdown_timeout=0.2)
        protocol.transport.write(bytes(32 << 20))
        started = time.monotonic()
        protocol.transport.close()
        assert isinstance(await protocol.lost, TimeoutError)
        assert time.monotonic() - started < 5
        peer.close()

    assert run(main) == []


def test_nothing_is_lost_when_the_peer_reads_slowly_after_close(run, server_tls, client_tls):
    async def main():
        protocol, peer = await with_blocking_peer(server_tls, client_tls)
        data = os.urandom(8 << 20)
        protocol.transport.write(data)
        protocol.transport.close()
        got = bytearray()

        def read():
            while part := peer.recv(100_000):
                got.extend(part)
                time.sleep(0.001)

        await asyncio.get_running_loop().run_in_executor(None, read)
        assert got == data
        peer.close()
        assert await protocol.lost is None

    assert run(main) == []


# --- contexts, memory, words -----------------------------------------------------------------------------------------


def test_the_protocol_is_called_in_the_context_in_which_it_was_connected(run, server_tls, client_tls):
    where = contextvars.ContextVar("where", default=None)

    class Protocol(Recorder):
        def __init__(self):
            super().__init__()
            self.seen = {}
            for name in "connection_made", "data_received", "eof_received", "pause_writing", "resume_writing":
                setattr(self, name, self.spy(name, getattr(self, name)))

        def spy(self, name, method):
            def call(*args):
                self.seen[name] = where.get()
                return method(*args)

            return call

        def connection_lost(self, exc):
            self.seen["connection_lost"] = where.get()
            super().connection_lost(exc)

    async def main():
        where.set("connecting")
        server, client = await connect(server_tls, client_tls, client=Protocol)
        where.set("later")
        for _ in range(32):
            client.transport.write(bytes(1 << 20))
        await until(lambda: len(server.data) == 32 << 20)
        server.transport.write(b"x")
        await until(lambda: client.data)
        server.transport.close()
        await client.lost
        assert client.seen.pop("pause_writing") == "later"  # From inside write().
        assert client.seen.pop("resume_writing") in {"connecting", "later"}  # asyncio: that of the write which waited.
        assert set(client.seen.values()) == {"connecting"}
        assert len(client.seen) == 4

    assert run(main) == []


@pytest.mark.parametrize("debug", [False, True])
def test_a_failed_handshake_of_a_server_is_told_in_debug_mode_only(run, server_tls, client_tls, debug):
    client_tls.minimum_version = ssl.TLSVersion.TLSv1_3
    server_tls.maximum_version = ssl.TLSVersion.TLSv1_2

    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_tls)
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            address = server.sockets[0].getsockname()
            await loop.create_connection(Recorder, *address, ssl=client_tls, server_hostname="localhost")
        await asyncio.sleep(0.02)
        server.close()
        await server.wait_closed()

    errors = run(main, debug=debug)
    messages = [error["message"] for error in errors]
    assert messages == (["Error on transport creation for incoming connection"] if debug else [])


def test_debug_mode_tells_about_the_handshake(run, server_tls, client_tls, caplog):
    caplog.set_level(logging.DEBUG, logger="asyncio")

    async def main():
        server, client = await connect(server_tls, client_tls)
        await close_both(server, client)

    assert run(main, debug=True) == []
    words = "\n".join(record.message for record in caplog.records)
    assert "starts SSL handshake" in words
    assert "SSL handshake took" in words


def test_an_ended_connection_leaves_nothing_to_the_garbage_collector(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        await close_both(server, client)
        client.transport = server.transport = None
        seen = [weakref.ref(client), weakref.ref(server)]
        del server, client
        await turns(3)
        assert [ref() for ref in seen] == [None, None]

    gc.disable()
    try:
        assert run(main) == []
    finally:
        gc.enable()


@ferrio_only  # asyncio's own leaves cycles before 3.14.
@pytest.mark.parametrize("upgrade", [False, True], ids=["create_connection", "start_tls"])
def test_a_refused_certificate_leaves_nothing_to_the_garbage_collector(run, server_tls, upgrade):
    stranger = ssl.create_default_context()
    seen = []

    async def refused(ours):
        loop = asyncio.get_running_loop()
        options = {"server_hostname": "localhost"}
        with pytest.raises(ssl.SSLCertVerificationError):
            if upgrade:
                transport, protocol = await loop.create_connection(asyncio.Protocol, sock=ours)
                seen.append(weakref.ref(transport))
                await loop.start_tls(transport, protocol, stranger, **options)
            else:
                await loop.create_connection(asyncio.Protocol, sock=ours, ssl=stranger, **options)

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = connected_pair()
        seen.append(weakref.ref(ours))
        serving = asyncio.ensure_future(loop.connect_accepted_socket(Recorder, theirs, ssl=server_tls))
        connecting = refused(ours)
        del ours
        await connecting
        del connecting
        await asyncio.wait([serving])
        assert serving.exception() is not None
        await turns(3)
        assert [ref() for ref in seen] == [None] * len(seen)

    gc.disable()
    try:
        assert run(main) == []
    finally:
        gc.enable()


def test_a_connection_that_is_dropped_open_warns_and_is_collected(new_loop, server_tls, client_tls):
    loop = new_loop()
    protocol, peer = loop.run_until_complete(with_blocking_peer(server_tls, client_tls))
    loop.run_until_complete(loop.shutdown_default_executor())
    seen = weakref.ref(protocol)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
        del protocol, loop
        gc.collect()
        gc.collect()
    # asyncio's own is kept alive by something in 3.15.
    assert seen() is None or new_loop is asyncio.SelectorEventLoop
    assert any("unclosed transport" in str(warning.message) for warning in caught)
    with contextlib.suppress(OSError):
        peer.close()


def test_a_context_may_make_ssl_objects_of_its_own(run, server_tls, client_tls):
    reads = []

    class Counting(ssl.SSLObject):
        def read(self, *args):
            data = super().read(*args)
            reads.append(data)
            return data

    client_tls.sslobject_class = Counting

    async def main():
        server, client = await connect(server_tls, client_tls)
        assert type(client.transport.get_extra_info("ssl_object")) is Counting
        data = os.urandom(100_000)
        server.transport.write(data)
        client.transport.write(data)
        await until(lambda: client.data == data and server.data == data)
        assert b"".join(reads) == data
        await close_both(server, client)

    assert run(main) == []


def test_other_threads_are_told_to_keep_off_what_openssl_has(new_loop, server_tls, client_tls):
    if new_loop is asyncio.SelectorEventLoop:
        pytest.skip("asyncio does not notice")
    raised = []

    def ask(transport):
        try:
            transport.get_write_buffer_size()
        except RuntimeError as error:
            raised.append(error)

    async def main():
        server, client = await connect(server_tls, client_tls)
        thread = threading.Thread(target=ask, args=(client.transport,))
        thread.start()
        thread.join()
        await close_both(server, client)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert "non-thread-safe" in str(raised[0]).lower()
