"""Transports in the hands of other threads than the one that runs the loop: asyncio says that it works nowhere, and as
threads take turns it does nearly everywhere."""

import asyncio
import os
import socket
import threading
import time

import ferrio
import pytest

from .conftest import takes_turns

pytestmark = takes_turns

#: More than the kernel takes at once.
DATA = bytes(range(256)) * 20_000


class Recorder:
    def __init__(self):
        self.received = b""
        self.paused = []
        self.lost = threading.Event()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data

    def datagram_received(self, data, address):
        self.received += data

    def eof_received(self):
        pass

    def pause_writing(self):
        self.paused.append(threading.current_thread())

    def resume_writing(self):
        self.paused.append(threading.current_thread())

    def connection_lost(self, error):
        self.lost.set()


class Stream(Recorder, asyncio.Protocol):
    pass


class Datagrams(Recorder, asyncio.DatagramProtocol):
    pass


def outcome(loop, coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def is_lost(loop, protocol):
    # asyncio does not wake its loop for it.
    loop.call_soon_threadsafe(int)
    return protocol.lost.wait(10)


def received(sock, size):
    data = b""
    while len(data) < size:
        data += sock.recv(1 << 20)
    return data


@pytest.fixture
def connected(running):
    """A stream transport with its protocol, and a blocking socket at the other end."""
    ours, peer = socket.socketpair()
    peer.settimeout(10)
    with peer:
        transport, protocol = outcome(running, running.connect_accepted_socket(Stream, ours))
        yield transport, protocol, peer
        running.call_soon_threadsafe(transport.abort)
        assert protocol.lost.wait(10)


def test_another_thread_writes_to_a_stream(connected):
    transport, _, peer = connected
    transport.write(b"one ")
    transport.writelines([b"two ", b"three"])
    assert received(peer, 13) == b"one two three"
    transport.write_eof()
    assert peer.recv(1) == b""


def test_another_thread_writes_more_than_the_kernel_takes(connected):
    transport, protocol, peer = connected
    transport.write(DATA)
    assert transport.get_write_buffer_size() > 0
    assert protocol.paused == [threading.current_thread()]
    transport.write(b"the end")
    assert received(peer, len(DATA) + 7) == DATA + b"the end"
    until(lambda: len(protocol.paused) == 2)
    assert transport.get_write_buffer_size() == 0


def test_what_another_thread_writes_comes_after_what_the_loop_has_gathered(running, connected):
    transport, _, peer = connected

    async def write():
        transport.write(b"first ")
        thread = threading.Thread(target=transport.write, args=(b"second ",))
        thread.start()
        thread.join()
        transport.write(b"third")

    outcome(running, write())
    assert received(peer, 18) == b"first second third"


def test_another_thread_pauses_and_resumes_reading(connected):
    transport, protocol, peer = connected
    transport.pause_reading()
    assert not transport.is_reading()
    peer.send(b"x")
    time.sleep(0.05)
    assert protocol.received == b""
    transport.resume_reading()
    until(lambda: protocol.received == b"x")


def test_another_thread_asks_a_transport(connected):
    transport, protocol, peer = connected
    assert not transport.is_closing()
    assert transport.get_protocol() is protocol
    assert transport.get_extra_info("socket").fileno() >= 0
    assert "fd=" in repr(transport)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_another_thread_ends_a_stream(running, connected, end):
    transport, protocol, peer = connected
    transport.write(b"last words")
    getattr(transport, end)()
    assert transport.is_closing()
    assert is_lost(running, protocol)
    assert received(peer, 10) == b"last words"
    assert peer.recv(1) == b""


@pytest.mark.parametrize("end", ["close", "abort"])
def test_another_thread_sends_datagrams(running, end):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(10)
        coroutine = running.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        transport, protocol = outcome(running, coroutine)
        transport.sendto(b"hello", peer.getsockname())
        data, address = peer.recvfrom(10)
        peer.sendto(data, address)
        until(lambda: protocol.received == b"hello")
        getattr(transport, end)()
        assert is_lost(running, protocol)


def test_another_thread_writes_to_a_pipe_and_closes_both_ends(running):
    read, write = os.pipe()
    reading, reader = outcome(running, running.connect_read_pipe(Stream, open(read, "rb", 0)))
    writing, writer = outcome(running, running.connect_write_pipe(Stream, open(write, "wb", 0)))
    writing.write(DATA)
    until(lambda: reader.received == DATA)
    writing.close()
    assert is_lost(running, writer)
    reading.close()
    assert is_lost(running, reader)


def test_another_thread_talks_to_a_child(running):
    async def start():
        return await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)

    child = outcome(running, start())
    child.stdin.write(b"hello")
    assert outcome(running, child.stdout.readexactly(5)) == b"hello"
    assert child.returncode is None
    child.kill()
    assert outcome(running, child.wait()) == -9


@pytest.fixture
def secured(running, server_tls, client_tls):
    """A TLS transport, with the protocols of both sides."""
    peers = []

    async def connect():
        server = await running.create_server(lambda: peers.append(Stream()) or peers[-1], "127.0.0.1", ssl=server_tls)
        address = server.sockets[0].getsockname()
        options = {"ssl": client_tls, "server_hostname": "localhost"}
        transport, protocol = await running.create_connection(Stream, *address, **options)
        server.close()
        return transport, protocol

    transport, protocol = outcome(running, connect())
    until(lambda: peers)
    yield transport, protocol, peers[0]
    assert peers[0].lost.wait(10)


# (Of asyncio's, two threads meet in one deque now and then.)
@pytest.mark.parametrize("new_loop", ["ferrio"], indirect=True)
@pytest.mark.parametrize("end", ["close", "abort"])
def test_another_thread_writes_to_and_ends_a_tls_connection(running, secured, end):
    transport, protocol, peer = secured
    transport.write(b"one ")
    transport.writelines([b"two ", b"three"])
    until(lambda: peer.received == b"one two three")
    transport.write(DATA)
    until(lambda: len(peer.received) == 13 + len(DATA))
    assert peer.received[13:] == DATA
    assert not transport.is_closing()
    assert transport.get_extra_info("cipher")
    assert transport.get_extra_info("socket").fileno() >= 0
    assert "TLS" not in repr(transport)
    transport.pause_reading()
    assert not transport.is_reading()
    transport.resume_reading()
    getattr(transport, end)()
    assert transport.is_closing()
    assert is_lost(running, protocol)


def test_another_thread_closes_a_server(running):
    server = outcome(running, running.create_server(Stream, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()
    server.close()
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_in_debug_mode_another_thread_may_not_end_a_transport(running, connected):
    transport, _, peer = connected
    running.set_debug(True)
    transport.write(b"x")
    assert peer.recv(10) == b"x"
    with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
        transport.abort()
    running.set_debug(False)
    # asyncio's is left in the middle of it.
    if finish := getattr(transport, "_call_connection_lost", None):
        running.call_soon_threadsafe(finish, None)


def test_threads_that_write_at_a_time_do_not_mix_what_they_write():
    count, threads = 300, 4
    ours, peer = socket.socketpair()
    peer.settimeout(10)
    loop = ferrio.new_event_loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()
    transport, protocol = outcome(loop, loop.connect_accepted_socket(Stream, ours))

    def write(name):
        for number in range(count):
            transport.write(b"%d %d %s\n" % (name, number, b"x" * (number * 7 % 5000)))

    def write_in_the_loop(number=0):
        transport.write(b"%d %d %s\n" % (threads, number, b"y" * 100))
        if number < count - 1:
            loop.call_soon(write_in_the_loop, number + 1)

    loop.call_soon_threadsafe(write_in_the_loop)
    writers = [threading.Thread(target=write, args=(name,)) for name in range(threads)]
    for writer in writers:
        writer.start()
    with peer, peer.makefile("rb") as lines:
        seen = {name: [] for name in range(threads + 1)}
        for _ in range(count * (threads + 1)):
            name, number, _ = next(lines).split(b" ")
            seen[int(name)].append(int(number))
    assert seen == {name: list(range(count)) for name in range(threads + 1)}
    for writer in writers:
        writer.join()
    assert protocol.lost.wait(10)
    loop.call_soon_threadsafe(loop.stop)
    running.join(10)
    loop.close()
