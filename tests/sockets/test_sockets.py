"""sock_recv and its family: what they do, what they refuse, and what cancelling one leaves behind."""

import array
import asyncio
import errno
import gc
import os
import socket
import ssl
import threading
import warnings
import weakref

import pytest

from .conftest import turns


@pytest.fixture
def pair():
    """Two connected non-blocking sockets."""
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def tcp():
    sock = socket.socket()
    sock.setblocking(False)
    return sock


def fill(sock):
    """Send until the kernel takes no more; returns the number of bytes."""
    sent = 0
    try:
        while True:
            sent += sock.send(bytes(65536))
    except BlockingIOError:
        return sent


# --- receiving -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 255, 256, 257, 65536, 1 << 20])
def test_recv_returns_what_is_there_as_exact_bytes(run, pair, size):
    async def main(loop):
        pair[1].send(b"abc")
        data = await loop.sock_recv(pair[0], size)
        assert data == b"abc"[:size]
        assert type(data) is bytes

    run(main)


def test_recv_waits_for_data_and_for_the_end(run, pair):
    async def main(loop):
        receiving = asyncio.ensure_future(loop.sock_recv(pair[0], 10))
        await turns()
        assert not receiving.done()
        pair[1].send(b"x")
        assert await receiving == b"x"
        receiving = asyncio.ensure_future(loop.sock_recv(pair[0], 10))
        await turns()
        pair[1].shutdown(socket.SHUT_WR)
        assert await receiving == b""

    run(main)


def test_recv_of_zero_bytes_takes_nothing(run, pair):
    async def main(loop):
        pair[1].send(b"x")
        assert await loop.sock_recv(pair[0], 0) == b""
        assert await loop.sock_recv(pair[0], 1) == b"x"

    run(main)


def test_recv_into_fills_any_writable_buffer_and_returns_the_count(run, pair):
    async def main(loop):
        for buffer in [bytearray(8), memoryview(bytearray(8)), array.array("i", [0, 0])]:
            receiving = asyncio.ensure_future(loop.sock_recv_into(pair[0], buffer))
            await turns()
            pair[1].send(b"\x01\x02\x03")
            assert await receiving == 3
            assert memoryview(buffer).cast("B")[:4] == b"\x01\x02\x03\x00"

    run(main)


@pytest.mark.parametrize(
    "buffer", [b"read-only", "text", memoryview(bytearray(8))[::2]], ids=["bytes", "str", "strided"]
)
def test_recv_into_refuses_other_buffers_when_awaited(run, pair, buffer):
    async def main(loop):
        pair[1].send(b"x")
        receiving = loop.sock_recv_into(pair[0], buffer)
        with pytest.raises((TypeError, BufferError)) as caught:
            await receiving
        with pytest.raises(type(caught.value)) as expected:
            pair[0].recv_into(buffer)
        assert str(caught.value) == str(expected.value)

    run(main)


@pytest.mark.parametrize("size", [-1, "1", 1.0, 1 << 70, None])
def test_recv_refuses_sizes_as_the_socket_does_when_awaited(run, pair, size):
    async def main(loop):
        receiving = loop.sock_recv(pair[0], size)
        with pytest.raises(Exception) as caught:
            await receiving
        with pytest.raises(type(caught.value)) as expected:
            pair[0].recv(size)
        assert str(caught.value) == str(expected.value)

    run(main)


def test_recv_accepts_what_is_an_index(run, pair):
    class Two:
        def __index__(self):
            return 2

    async def main(loop):
        pair[1].send(b"abc")
        assert await loop.sock_recv(pair[0], Two()) == b"ab"
        assert await loop.sock_recv(pair[0], True) == b"c"

    run(main)


def test_recv_on_a_closed_socket_is_a_bad_descriptor(run, pair):
    async def main(loop):
        pair[0].close()
        with pytest.raises(OSError) as caught:
            await loop.sock_recv(pair[0], 1)
        assert caught.value.args == (errno.EBADF, os.strerror(errno.EBADF))

    run(main)


def test_a_reset_is_a_connection_reset_error_with_its_number(run, listener):
    async def main(loop):
        with tcp() as client:
            await loop.sock_connect(client, listener.getsockname())
            server, _ = await loop.sock_accept(listener)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            server.close()
            with pytest.raises(ConnectionResetError) as caught:
                await loop.sock_recv(client, 1)
            assert caught.value.errno == errno.ECONNRESET

    run(main)


def test_a_socket_class_with_its_own_methods_is_asked(run):
    class Shouting(socket.socket):
        def recv(self, size, flags=0):
            return super().recv(size, flags).upper()

        def send(self, data, flags=0):
            return super().send(bytes(data).upper(), flags)

    async def main(loop):
        left, right = socket.socketpair()
        with right, Shouting(fileno=left.detach()) as shouting:
            shouting.setblocking(False)
            receiving = asyncio.ensure_future(loop.sock_recv(shouting, 10))
            await turns()
            right.send(b"a")
            assert await receiving == b"A"
            await loop.sock_sendall(shouting, b"b")
            assert right.recv(10) == b"B"

    run(main)


# --- sending ---------------------------------------------------------------------------------------------------------


def test_sendall_sends_more_than_the_kernel_takes_at_once(run, pair):
    data = os.urandom(3_000_000)

    async def main(loop):
        sending = asyncio.ensure_future(loop.sock_sendall(pair[0], data))
        received = bytearray()
        while len(received) < len(data):
            received += await loop.sock_recv(pair[1], 100_000)
        assert await sending is None
        assert received == data

    run(main)


@pytest.mark.parametrize(
    "data",
    [b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview")[2:5], array.array("B", b"array"), b""],
    ids=lambda data: type(data).__name__,
)
def test_sendall_takes_all_that_lends_its_bytes(run, pair, data):
    async def main(loop):
        await loop.sock_sendall(pair[0], data)
        pair[0].close()
        assert await loop.sock_recv(pair[1], 100) == bytes(data)

    run(main)


def test_sendall_counts_bytes_whatever_the_items_are(run_on_ferrio, pair):
    # asyncio counts items, and so sends some of a large array twice: no oracle here.
    data = array.array("q", range(100_000))

    async def main(loop):
        sending = asyncio.ensure_future(loop.sock_sendall(pair[0], memoryview(data)))
        received = bytearray()
        while len(received) < len(data) * 8:
            received += await loop.sock_recv(pair[1], 100_000)
        await sending
        assert received == data.tobytes()

    run_on_ferrio(main)


def test_sendall_holds_the_buffer_while_it_waits(run, pair):
    async def main(loop):
        data = bytearray(fill(pair[0]) + 1_000_000)
        sending = asyncio.ensure_future(loop.sock_sendall(pair[0], data))
        await turns()
        with pytest.raises(BufferError):
            data.append(1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        del sending
        data.append(1)

    run(main)


@pytest.mark.parametrize("data", ["text", None, 5, memoryview(b"abcdef")[::2]], ids=["str", "None", "int", "strided"])
def test_sendall_refuses_what_is_not_bytes_when_awaited(run, pair, data):
    async def main(loop):
        sending = loop.sock_sendall(pair[0], data)
        with pytest.raises((TypeError, BufferError)) as caught:
            await sending
        with pytest.raises(type(caught.value)) as expected:
            pair[0].send(data)
        assert str(caught.value) == str(expected.value)

    run(main)


def test_sendall_to_nobody_is_a_broken_pipe(run, pair):
    async def main(loop):
        pair[1].close()
        with pytest.raises(BrokenPipeError) as caught:
            await loop.sock_sendall(pair[0], b"x")
        assert caught.value.errno == errno.EPIPE

    run(main)


def test_an_empty_sendall_is_an_empty_datagram(run):
    async def main(loop):
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            await loop.sock_sendall(left, b"")
            assert right.recv(10) == b""

    run(main)


# --- datagrams -------------------------------------------------------------------------------------------------------


def test_datagrams_with_their_addresses(run):
    async def main(loop):
        with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
            for sock in (one, two):
                sock.setblocking(False)
                sock.bind(("127.0.0.1", 0))
            receiving = asyncio.ensure_future(loop.sock_recvfrom(two, 100))
            await turns()
            assert await loop.sock_sendto(one, b"hello", two.getsockname()) == 5
            assert await receiving == (b"hello", one.getsockname())
            for buffer, limit in [(bytearray(8), []), (bytearray(8), [3]), (bytearray(8), [0])]:
                receiving = asyncio.ensure_future(loop.sock_recvfrom_into(two, buffer, *limit))
                await turns()
                await loop.sock_sendto(one, b"hello", two.getsockname())
                expected = min(5, limit[0] if limit and limit[0] else 8)
                assert await receiving == (expected, one.getsockname())
                assert buffer[:expected] == b"hello"[:expected]

    run(main)


def test_recvfrom_into_without_a_limit_needs_a_length(run):
    async def main(loop):
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            with pytest.raises(TypeError):
                await loop.sock_recvfrom_into(sock, 5)
            with pytest.raises(ValueError, match="nbytes is greater than the length"):
                await loop.sock_recvfrom_into(sock, bytearray(3), 4)

    run(main)


# --- connecting and accepting ----------------------------------------------------------------------------------------


def test_accept_and_connect(run, listener):
    async def main(loop):
        with tcp() as client:
            accepting = asyncio.ensure_future(loop.sock_accept(listener))
            await turns()
            assert await loop.sock_connect(client, listener.getsockname()) is None
            server, address = await accepting
            with server:
                assert type(server) is socket.socket
                assert server.gettimeout() == 0
                assert address == client.getsockname()
                await loop.sock_sendall(client, b"x")
                assert await loop.sock_recv(server, 1) == b"x"

    run(main)


def test_connect_looks_names_up_with_the_loops_own_getaddrinfo(run, listener):
    async def main(loop):
        asked = []

        async def getaddrinfo(host, port, **options):
            asked.append((host, port, options))
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        loop.getaddrinfo = getaddrinfo
        port = listener.getsockname()[1]
        with tcp() as client:
            await loop.sock_connect(client, ("name.invalid", port))
            assert client.getpeername() == ("127.0.0.1", port)
        assert asked == [
            ("name.invalid", port, {"family": socket.AF_INET, "type": socket.SOCK_STREAM, "proto": 0, "flags": 0})
        ]
        with tcp() as client:
            await loop.sock_connect(client, ("127.0.0.1", str(port)))
        assert len(asked) == 1

    run(main)


def test_a_refused_connection_names_the_address(run):
    async def main(loop):
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
        with tcp() as client:
            with pytest.raises(ConnectionRefusedError) as caught:
                await loop.sock_connect(client, address)
            assert caught.value.args == (errno.ECONNREFUSED, f"Connect call failed {address}")

    run(main)


def test_a_unix_socket_without_listener_is_refused(run, tmp_path):
    async def main(loop):
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            with pytest.raises(FileNotFoundError):
                await loop.sock_connect(client, str(tmp_path / "nobody"))

    run(main)


def test_connecting_to_a_full_unix_listener_waits_until_there_is_room(run_on_ferrio, tmp_path):
    # asyncio reports success at once and leaves the socket unconnected: no oracle here.
    async def main(loop):
        path = str(tmp_path / "full")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen(0)
            server.setblocking(False)
            with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
                first.setblocking(False)
                second.setblocking(False)
                await loop.sock_connect(first, path)
                connecting = asyncio.ensure_future(loop.sock_connect(second, path))
                await asyncio.sleep(0.02)
                assert not connecting.done()
                for _ in range(2):
                    (await loop.sock_accept(server))[0].close()
                await connecting
                assert second.getpeername() == path

    run_on_ferrio(main)


@pytest.mark.parametrize("address", [(), ("127.0.0.1",), 5, ("127.0.0.1", "no-such-service"), ("127.0.0.1", 70000)])
def test_connect_refuses_addresses_when_awaited(run, address):
    async def main(loop):
        with tcp() as client:
            connecting = loop.sock_connect(client, address)
            with pytest.raises((TypeError, ValueError, OverflowError, socket.gaierror)):
                await connecting

    run(main)


# --- cancelling ------------------------------------------------------------------------------------------------------


def test_cancelling_a_recv_loses_nothing(run, pair):
    async def main(loop):
        for _ in range(3):
            receiving = asyncio.ensure_future(loop.sock_recv(pair[0], 10))
            await turns()
            pair[1].send(b"x")
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            assert await loop.sock_recv(pair[0], 10) == b"x"

    run(main)


def test_cancelling_an_accept_leaves_the_connection_to_the_next(run, listener):
    async def main(loop):
        for _ in range(3):
            accepting = asyncio.ensure_future(loop.sock_accept(listener))
            await turns()
            with socket.create_connection(listener.getsockname()) as client:
                accepting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await accepting
                server, address = await loop.sock_accept(listener)
                server.close()
                assert address == client.getsockname()

    run(main)


def test_a_cancelled_wait_does_not_watch_the_next_socket_of_that_number(run):
    async def main(loop):
        for _ in range(20):
            left, right = socket.socketpair()
            left.setblocking(False)
            receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
            await turns()
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            left.close()
            right.close()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
            await turns()
            right.send(b"mine")
            assert await receiving == b"mine"

    run(main)


def test_cancelling_a_connect_frees_the_socket(run):
    async def main(loop):
        with socket.socket() as server:
            # Nobody answers at a listener whose queue is full.
            server.bind(("127.0.0.1", 0))
            server.listen(0)
            fillers = [tcp() for _ in range(4)]
            for filler in fillers:
                filler.connect_ex(server.getsockname())
            client = tcp()
            connecting = asyncio.ensure_future(loop.sock_connect(client, server.getsockname()))
            await turns()
            assert not connecting.done()
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert not loop.remove_writer(client)
            for sock in [client, *fillers]:
                sock.close()

    run(main)


# --- what is refused -------------------------------------------------------------------------------------------------

CALLS = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 1),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 1),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, b"x"),
    "sock_sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", ("127.0.0.1", 9)),
    "sock_connect": lambda loop, sock: loop.sock_connect(sock, ("127.0.0.1", 9)),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_blocking_socket_is_refused_in_debug_mode(run, call):
    async def main(loop):
        with socket.socket() as sock:
            awaitable = call(loop, sock)
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                await awaitable

    run(main, debug=True)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_tls_socket_is_refused(run, call):
    async def main(loop):
        context = ssl.create_default_context()
        context.check_hostname = False
        with context.wrap_socket(socket.socket(), do_handshake_on_connect=False) as sock:
            sock.setblocking(False)
            awaitable = call(loop, sock)
            with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                await awaitable

    run(main)


def test_a_blocking_socket_does_not_stop_the_loop(run_on_ferrio):
    # asyncio would block in recv() for ever, or until the timeout of the socket: no oracle here.
    async def main(loop):
        left, right = socket.socketpair()
        with left, right:
            receiving = asyncio.ensure_future(loop.sock_recv(left, 1))
            await turns()
            right.send(b"x")
            assert await receiving == b"x"

    run_on_ferrio(main)


def test_receiving_and_sending_at_once_on_one_socket(run, pair):
    async def main(loop):
        fill(pair[0])
        sending = asyncio.ensure_future(loop.sock_sendall(pair[0], b"last"))
        receiving = asyncio.ensure_future(loop.sock_recv(pair[0], 10))
        await turns()
        pair[1].send(b"x")
        assert await receiving == b"x"
        assert not sending.done()
        while not sending.done():
            await loop.sock_recv(pair[1], 1 << 20)
        await sending

    run(main)


def test_a_peer_in_another_thread(run, pair):
    def echo():
        with pair[1] as sock:
            sock.setblocking(True)
            while data := sock.recv(65536):
                sock.sendall(data)

    async def main(loop):
        thread = threading.Thread(target=echo)
        thread.start()
        for size in [1, 1000, 50_000]:
            await loop.sock_sendall(pair[0], bytes(size))
            received = 0
            while received < size:
                received += len(await loop.sock_recv(pair[0], 65536))
        pair[0].shutdown(socket.SHUT_WR)
        assert await loop.sock_recv(pair[0], 1) == b""
        thread.join()

    run(main)


def test_a_cancelled_wait_leaves_the_next_one_alone(run, pair):
    async def main(loop):
        first = asyncio.ensure_future(loop.sock_recv(pair[0], 10))
        await turns()
        first.cancel()
        second = asyncio.ensure_future(loop.sock_recv(pair[0], 10))
        await turns()
        pair[1].send(b"x")
        assert await second == b"x"
        assert first.cancelled()

    run(main)


def test_several_may_wait_for_one_socket(run_on_ferrio, listener):
    # asyncio forgets all but the last: no oracle here.
    async def main(loop):
        accepting = [asyncio.ensure_future(loop.sock_accept(listener)) for _ in range(3)]
        await turns()
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        for server, _ in await asyncio.gather(*accepting):
            server.close()
        for client in clients:
            client.close()

    run_on_ferrio(main)


def test_a_descriptor_is_free_again_once_its_transport_is_gone(run, pair):
    async def main(loop):
        transport, protocol = await loop.create_connection(asyncio.Protocol, sock=pair[0])
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(pair[0], 1)
        # Not read, so that nothing keeps it alive; and collected by another thread, as may happen to everything.
        transport.pause_reading()
        pair[1].send(b"news that nobody wants")
        await turns()
        gone = weakref.ref(transport)
        number = pair[0].fileno()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del transport, protocol
            await loop.run_in_executor(None, gc.collect)
            await turns()
        assert gone() is None
        # It has closed the socket that it was given. The next descriptor has its number.
        assert pair[0].fileno() == -1
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            assert number in (left.fileno(), right.fileno())
            for one, other in ((left, right), (right, left)):
                one.send(b"free")
                assert await loop.sock_recv(other, 4) == b"free"

    run(main)


def test_a_transports_socket_is_refused(run, pair):
    async def main(loop):
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=pair[0])
        for call in ("sock_recv", "sock_recv_into", "sock_recvfrom"):
            with pytest.raises(RuntimeError, match="File descriptor .* is used by transport"):
                await CALLS[call](loop, pair[0])
        transport.close()
        await turns()

    run(main)
