"""Cancelling what waits on a descriptor, and what sockets, names and pipes tell."""

import asyncio
import errno
import itertools
import os
import random
import resource
import socket
import sys
import tempfile
import time

import pytest

from .support import (
    LOCALHOST,
    Recorder,
    fill,
    in_thread,
    open_descriptors,
    read_all,
    read_exactly,
    transport_over,
    turns,
    until,
    within,
)


@pytest.fixture
def black_hole():
    """An address where connecting never finishes: a listener whose queue is full."""
    with socket.socket() as listener:
        listener.bind((LOCALHOST, 0))
        listener.listen(0)
        queued = []
        try:
            for _ in range(4):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
                queued.append(sock)
            yield listener.getsockname()
        finally:
            for sock in queued:
                sock.close()


# cancelling a connection in the making


def test_cancelling_sock_connect_unregisters_before_the_number_is_reused(run, loop, black_hole):
    async def main():
        for _ in range(20):
            sock = socket.socket()
            sock.setblocking(False)
            number = sock.fileno()
            connecting = asyncio.ensure_future(loop.sock_connect(sock, black_hole))
            await turns(2)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            sock.close()
            ours, peer = socket.socketpair()
            with ours, peer:
                assert number in (ours.fileno(), peer.fileno())
                other = peer if number == ours.fileno() else ours
                ours.setblocking(False)
                peer.setblocking(False)
                read = []
                loop.add_reader(number, read.append, 1)
                await turns(3)
                assert read == []
                other.send(b"x")
                await until(lambda: read)
                assert loop.remove_reader(number) is True
                os.fstat(number)  # Still open: nobody closed a number that is no longer theirs.

    run(main())


def test_a_socket_closed_right_after_cancelling_takes_nothing_with_it(run, loop, black_hole):
    """The order in which happy-eyeballs clients do it: cancel, close, and open the next, all before the loop turns."""

    async def main():
        for _ in range(50):
            sock = socket.socket()
            sock.setblocking(False)
            connecting = asyncio.ensure_future(loop.sock_connect(sock, black_hole))
            await turns()
            connecting.cancel()
            sock.close()
            ours, peer = socket.socketpair()
            with ours, peer:
                ours.setblocking(False)
                receiving = asyncio.ensure_future(loop.sock_recv(ours, 10))
                await turns(2)
                peer.send(b"hello")
                assert await within(receiving) == b"hello"
                assert connecting.cancelled()

    run(main())


@pytest.mark.parametrize("steps", range(6))
def test_cancelling_create_connection_at_any_step_leaks_nothing(run, loop, black_hole, steps):
    async def main():
        await asyncio.gather(loop.getaddrinfo(LOCALHOST, 1), asyncio.sleep(0.01))
        before = open_descriptors()
        for _ in range(10):
            connecting = asyncio.ensure_future(loop.create_connection(Recorder, *black_hole))
            await turns(steps)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        await turns(3)
        assert open_descriptors() == before

    run(main())


def test_cancelling_create_connection_while_it_succeeds_leaks_nothing(run, loop):
    async def main():
        with socket.create_server((LOCALHOST, 0), backlog=200) as listener:
            before = open_descriptors()
            for steps in itertools.chain(range(12), range(12)):
                connecting = asyncio.ensure_future(loop.create_connection(Recorder, *listener.getsockname()))
                await turns(steps)
                connecting.cancel()
                try:
                    transport, protocol = await connecting
                except asyncio.CancelledError:
                    continue
                transport.abort()
                await within(protocol.lost)
            await asyncio.sleep(0.02)
            await until(lambda: open_descriptors() == before)

    run(main())


# cancelling a socket method


def test_cancelling_sock_recv_before_data_leaves_it_for_the_next(run, loop, sockets):
    ours, peer = sockets

    async def main():
        for n in range(50):
            message = b"%d" % n
            receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await turns(2)
            peer.send(message)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            assert await within(loop.sock_recv(ours, 100)) == message

    run(main())


@pytest.mark.stock_differs(
    "it reads when the socket is ready, and what was read is lost if the task is cancelled before its step"
)
@pytest.mark.parametrize("method", ["sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"])
def test_cancelling_a_receiving_method_in_the_turn_its_data_came_loses_nothing(run, loop, sockets, method):
    ours, peer = sockets
    buffer = bytearray(100)
    argument = buffer if method.endswith("into") else 100

    async def main():
        receiving = asyncio.ensure_future(getattr(loop, method)(ours, argument))
        await turns(2)

        def provoke():  # The next turn handles the socket first, then the timer, and only the one after steps the task.
            peer.send(b"precious")
            loop.call_later(0.001, receiving.cancel)
            time.sleep(0.01)

        loop.call_soon(provoke)
        try:
            result = await receiving
        except asyncio.CancelledError:
            return await within(loop.sock_recv(ours, 100), 0.5)
        return b"precious" if result in (b"precious", 8) or result[0] in (b"precious", 8) else result

    assert run(main()) == b"precious"


def test_cancelling_sock_accept_before_a_client_leaves_it_for_the_next(run, loop):
    async def main():
        with socket.create_server((LOCALHOST, 0)) as listener:
            listener.setblocking(False)
            for _ in range(20):
                accepting = asyncio.ensure_future(loop.sock_accept(listener))
                await turns(2)
                with socket.create_connection(listener.getsockname()) as client:
                    accepting.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await accepting
                    accepted, address = await within(loop.sock_accept(listener))
                    with accepted:
                        assert address == client.getsockname()

    run(main())


@pytest.mark.stock_differs(
    "it accepts when the listener is ready, and the connection is lost if the task is cancelled before its step"
)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_cancelling_sock_accept_in_the_turn_a_client_came_loses_nothing(run, loop):
    async def main():
        with socket.create_server((LOCALHOST, 0)) as listener:
            listener.setblocking(False)
            accepting = asyncio.ensure_future(loop.sock_accept(listener))
            await turns(2)
            clients = []

            def provoke():
                clients.append(socket.create_connection(listener.getsockname()))
                loop.call_later(0.001, accepting.cancel)
                time.sleep(0.01)

            loop.call_soon(provoke)
            try:
                accepted, address = await accepting
            except asyncio.CancelledError:
                accepted, address = await within(loop.sock_accept(listener), 0.5)
            with accepted, clients[0]:
                assert address == clients[0].getsockname()

    run(main())


def test_cancelling_sock_sendall_stops_sending(run, loop, sockets):
    ours, peer = sockets

    async def main():
        sending = asyncio.ensure_future(loop.sock_sendall(ours, bytes(64 << 20)))
        await turns(3)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert loop.remove_writer(ours) is False
        ours.shutdown(socket.SHUT_WR)
        assert len(await in_thread(read_all, peer)) < 64 << 20

    run(main())


def test_socket_methods_do_what_they_say(run, loop, sockets):
    ours, peer = sockets

    async def main():
        peer.send(b"abc")
        assert await within(loop.sock_recv(ours, 2)) == b"ab"
        buffer = bytearray(10)
        assert await within(loop.sock_recv_into(ours, buffer)) == 1
        assert buffer == b"c" + bytes(9)
        big = os.urandom(4 << 20)
        reading = in_thread(read_exactly, peer, len(big))
        assert await within(loop.sock_sendall(ours, big)) is None
        assert await reading == big
        receiving = asyncio.ensure_future(loop.sock_recv(ours, 10))
        await turns(2)
        assert not receiving.done()
        peer.close()
        assert await within(receiving) == b""

    run(main())


def test_datagram_socket_methods_do_what_they_say(run, loop):
    async def main():
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as a,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as b,
        ):
            for sock in (a, b):
                sock.bind((LOCALHOST, 0))
                sock.setblocking(False)
            assert await within(loop.sock_sendto(a, b"hello", b.getsockname())) == 5
            assert await within(loop.sock_recvfrom(b, 100)) == (b"hello", a.getsockname())
            buffer = bytearray(10)
            receiving = asyncio.ensure_future(loop.sock_recvfrom_into(b, buffer))
            await turns(2)
            await loop.sock_sendto(a, b"again", b.getsockname())
            assert await within(receiving) == (5, a.getsockname())
            assert buffer[:5] == b"again"
            await loop.sock_sendto(a, b"0123456789", b.getsockname())
            assert await within(loop.sock_recvfrom_into(b, buffer, 3)) == (3, a.getsockname())

    run(main())


def test_sock_connect_and_sock_accept_meet(run, loop):
    async def main():
        with socket.create_server((LOCALHOST, 0)) as listener, socket.socket() as client:
            listener.setblocking(False)
            client.setblocking(False)
            accepting = asyncio.ensure_future(loop.sock_accept(listener))
            assert await within(loop.sock_connect(client, listener.getsockname())) is None
            accepted, address = await within(accepting)
            with accepted:
                assert address == client.getsockname()
                assert accepted.getblocking() is False
                await loop.sock_sendall(client, b"hi")
                assert await within(loop.sock_recv(accepted, 10)) == b"hi"

    run(main())


def test_sock_connect_tells_that_nobody_listens(run, loop):
    with socket.create_server((LOCALHOST, 0)) as listener:
        address = listener.getsockname()

    async def main():
        with socket.socket() as client:
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError):
                await within(loop.sock_connect(client, address))

    run(main())


@pytest.mark.parametrize("how", ["sock_connect", "create_connection"])
def test_a_program_that_connects_again_and_again_lets_the_server_start(run, loop, how):
    """A refusal of this very machine comes at once; still it takes a turn."""
    with socket.create_server((LOCALHOST, 0)) as listener:
        address = listener.getsockname()

    async def serve():
        await turns(10)
        return await loop.create_server(asyncio.Protocol, *address, reuse_address=True)

    async def connect(client):
        if how == "sock_connect":
            await loop.sock_connect(client, address)
        else:
            transport, _ = await loop.create_connection(asyncio.Protocol, *address)
            transport.close()

    async def main():
        serving = asyncio.ensure_future(serve())
        refused = 0
        while True:
            with socket.socket() as client:
                client.setblocking(False)
                try:
                    await connect(client)
                    break
                except ConnectionRefusedError:
                    refused += 1
        (await within(serving)).close()
        assert refused > 0

    run(main())


def test_a_reader_of_ones_own_and_a_socket_method_take_turns(run, loop, sockets):
    ours, peer = sockets

    async def main():
        receiving = asyncio.ensure_future(loop.sock_recv(ours, 10))
        await turns(2)
        peer.send(b"x")
        assert await within(receiving) == b"x"
        assert loop.remove_reader(ours) is False  # A finished socket method leaves no reader behind.
        got = []
        loop.add_reader(ours, lambda: got.append(ours.recv(1)))
        peer.send(b"y")
        await until(lambda: got == [b"y"])
        loop.remove_reader(ours)

    run(main())


@pytest.mark.parametrize("size", [0, 1, 100_000, 3 << 20])
def test_sock_sendfile_sends_the_file_and_moves_its_position(run, loop, sockets, size):
    ours, peer = sockets
    content = os.urandom(size)

    async def main():
        with tempfile.TemporaryFile() as file:
            file.write(b"skipped" + content)
            file.flush()
            reading = in_thread(read_all, peer)
            assert await within(loop.sock_sendfile(ours, file, 7)) == size
            assert file.tell() == 7 + size
            ours.shutdown(socket.SHUT_WR)
            assert await reading == content

    run(main())


@pytest.mark.parametrize("count", [None, 1, 50_000])
def test_sendfile_over_a_transport_sends_between_writes(run, loop, sockets, count):
    ours, peer = sockets
    content = os.urandom(400_000)

    async def main():
        reading = in_thread(read_all, peer)
        transport, protocol = await transport_over(ours)
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            transport.write(b"head" * 50_000)
            assert await within(loop.sendfile(transport, file, 10, count)) == (count or len(content) - 10)
            transport.write(b"tail")
        transport.close()
        await within(protocol.lost)
        return await reading

    assert run(main()) == b"head" * 50_000 + content[10:][:count] + b"tail"


# accepting


def test_accept_backs_off_a_second_when_descriptors_run_out_and_then_goes_on(run, loop, errors):
    accepted = []
    hoard = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            accepted.append(transport)

    async def main():
        server = await loop.create_server(Protocol, LOCALHOST, 0)
        client = socket.socket()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
        try:
            try:
                while True:
                    hoard.append(os.dup(0))
            except OSError as error:
                assert error.errno == errno.EMFILE
            client.connect(server.sockets[0].getsockname())
            started = time.monotonic()
            cpu = time.process_time()
            await until(lambda: errors)
            await asyncio.sleep(0.5)
            assert time.process_time() - cpu < 0.25, "the loop is spinning"
            assert accepted == []
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for number in hoard:
                os.close(number)
        assert "out of system resource" in errors[0]["message"]
        assert errors[0]["exception"].errno == errno.EMFILE
        del errors[:]
        await until(lambda: accepted)
        assert 0.9 < time.monotonic() - started < 3
        accepted[0].abort()
        client.close()
        server.close()
        await turns(3)

    run(main())


def test_a_server_accepts_a_crowd_that_came_at_once(run, loop):
    made = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            made.append(transport)

    async def main():
        server = await loop.create_server(Protocol, LOCALHOST, 0, backlog=300)
        clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(250)]
        await until(lambda: len(made) == 250)
        for client in clients:
            client.close()
        server.close()
        await within(server.wait_closed())
        await turns(5)

    run(main())


# what transports tell


def test_the_socket_of_a_transport_is_a_transport_socket(run, loop, sockets):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        sock = transport.get_extra_info("socket")
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        assert sock.family == socket.AF_INET and sock.type == socket.SOCK_STREAM
        assert sock.fileno() == sockets[0].fileno()
        assert sock.getpeername() == transport.get_extra_info("peername") == sockets[1].getsockname()
        assert sock.getsockname() == transport.get_extra_info("sockname") == sockets[1].getpeername()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        with sock.dup() as copy:
            assert copy.fileno() != sock.fileno()
        with pytest.raises(ValueError):
            sock.setblocking(True)
        assert transport.get_extra_info("no such thing") is None
        assert transport.get_extra_info("no such thing", "a default") == "a default"
        transport.close()
        await within(protocol.lost)

    run(main())


def test_the_peers_name_outlives_the_connection(run, loop, sockets):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        expected = sockets[1].getsockname()
        sockets[1].close()
        await within(protocol.lost)
        await turns(3)
        assert transport.get_extra_info("peername") == expected

    run(main())


def test_a_tcp_transport_sends_small_writes_without_delay(run, loop, sockets):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        transport.close()
        await within(protocol.lost)

    run(main())


# datagrams


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.got = []
        self.errors = []
        self.lost = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        self.got.append((data, addr))

    def error_received(self, exc):
        self.errors.append(exc)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio sends empty datagrams since 3.13")
@pytest.mark.parametrize("connected", [False, True])
def test_empty_datagrams_are_sent(run, loop, connected):
    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind((LOCALHOST, 0))
            peer.settimeout(2)
            address = peer.getsockname()
            transport, _ = await loop.create_datagram_endpoint(
                Datagrams, (LOCALHOST, 0), address if connected else None
            )
            for data in (b"", b"x", b""):
                transport.sendto(data, None if connected else address)
            assert [await in_thread(peer.recv, 10) for _ in range(3)] == [b"", b"x", b""]
            transport.close()
            await turns(3)

    run(main())


def test_empty_datagrams_are_received(run, loop):
    async def main():
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, (LOCALHOST, 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind((LOCALHOST, 0))
            for data in (b"", b"x", b""):
                peer.sendto(data, transport.get_extra_info("sockname"))
            await until(lambda: len(protocol.got) == 3)
            assert protocol.got == [(data, peer.getsockname()) for data in (b"", b"x", b"")]
        transport.close()
        assert await within(protocol.lost) is None

    run(main())


def test_an_unreachable_peer_is_told_to_error_received(run, loop):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind((LOCALHOST, 0))
        address = gone.getsockname()

    async def main():
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=address)
        transport.sendto(b"anyone?")
        await until(lambda: protocol.errors)
        assert isinstance(protocol.errors[0], ConnectionRefusedError)
        assert not transport.is_closing()
        transport.close()
        await within(protocol.lost)

    run(main())


def test_a_connected_endpoint_refuses_another_address(run, loop):
    async def main():
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=(LOCALHOST, 9))
        with pytest.raises(ValueError):
            transport.sendto(b"x", (LOCALHOST, 10))
        transport.abort()
        await within(protocol.lost)

    run(main())


def test_unix_datagrams_flow_both_ways(run, loop, tmp_path):
    async def main():
        ours, theirs = str(tmp_path / "ours"), str(tmp_path / "theirs")
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, ours, family=socket.AF_UNIX)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.bind(theirs)
            peer.settimeout(2)
            transport.sendto(b"to you", theirs)
            assert await in_thread(peer.recvfrom, 100) == (b"to you", ours)
            peer.sendto(b"to me", ours)
            await until(lambda: protocol.got == [(b"to me", theirs)])
        transport.close()
        await within(protocol.lost)

    run(main())


# names


HOSTS = [
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%lo",
    "fe80::1%1",
    "::ffff:1.2.3.4",
    "1.2.3",
    "127.1",
    "0x7f.1",
    "1",
    "",
    None,
    b"127.0.0.1",
    "01.02.03.04",
]
# Asked for as numbers only: otherwise they are names, and a name server would be asked.
NAMES = [
    "1.2.3.4.5",
    "::g",
    "fe80::1%nosuchinterface",
    "127.0.0.1%lo",
    " 127.0.0.1",
    "127.0.0.1 ",
    "[::1]",
    "localhost",
]
PORTS = [80, 0, 65535, "80", "http", None, b"80", "", 65536, -1, "no-such-service"]


def failure(error):
    return type(error), getattr(error, "errno", None)


@pytest.mark.parametrize("family", [0, socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize(
    "kind", [(0, 0), (socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, socket.IPPROTO_UDP)], ids=["any", "tcp", "udp"]
)
def test_getaddrinfo_answers_as_the_systems_does(run, loop, family, kind):
    type, proto = kind
    different = []

    async def main():
        numeric = [socket.AI_NUMERICHOST, socket.AI_NUMERICHOST | socket.AI_NUMERICSERV]
        for host, port, flags in itertools.chain(
            itertools.product(HOSTS, PORTS, [0, socket.AI_PASSIVE, *numeric]), itertools.product(NAMES, PORTS, numeric)
        ):
            keywords = dict(family=family, type=type, proto=proto, flags=flags)
            try:
                expected = socket.getaddrinfo(host, port, **keywords)
            except Exception as error:
                expected = failure(error)
            try:
                got = await loop.getaddrinfo(host, port, **keywords)
            except Exception as error:
                got = failure(error)
            if got != expected:
                different.append((host, port, flags, got, expected))

    run(main())
    assert different == []


def test_getaddrinfo_keeps_the_scope_of_an_ipv6_address(run, loop):
    [(*_, address)] = run(loop.getaddrinfo("fe80::1%lo", 80, type=socket.SOCK_STREAM))
    assert address[3] == socket.if_nametoindex("lo")


def test_getnameinfo_answers_as_the_systems_does(run, loop):
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    for address in ((LOCALHOST, 80), ("::1", 443), ("fe80::1", 80, 0, 1), ("::1", 0, 0, 0)):
        assert run(loop.getnameinfo(address, flags)) == socket.getnameinfo(address, flags)
    assert run(loop.getnameinfo((LOCALHOST, 80), socket.NI_NUMERICHOST)) == socket.getnameinfo(
        (LOCALHOST, 80), socket.NI_NUMERICHOST
    )


def test_create_connection_falls_back_from_ipv6_to_ipv4(run, loop):
    """`localhost` with several addresses of which only one listens."""

    async def main():
        server = await loop.create_server(Recorder, LOCALHOST, 0)
        port = server.sockets[0].getsockname()[1]

        async def both(*args, **keywords):
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (LOCALHOST, port)),
            ]

        loop.getaddrinfo = both
        for options in ({}, {"happy_eyeballs_delay": 0.05}, {"happy_eyeballs_delay": 0.05, "interleave": 1}):
            transport, protocol = await within(loop.create_connection(Recorder, "localhost", port, **options))
            assert transport.get_extra_info("peername") == (LOCALHOST, port)
            transport.close()
            await within(protocol.lost)
        del loop.getaddrinfo
        server.close()
        await within(server.wait_closed())

    run(main())


# pipes


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


def test_random_cancellation_leaves_every_descriptor_to_its_owner(run, loop):
    """Sockets opened, awaited, cancelled and closed at random: each number only ever serves the socket that has it now."""
    dice = random.Random(21)

    async def main():
        before = open_descriptors()
        for _ in range(300):
            ours, peer = socket.socketpair()
            with ours, peer:
                ours.setblocking(False)
                peer.setblocking(False)
                waiting = [asyncio.ensure_future(loop.sock_recv(ours, 10))]
                if dice.random() < 0.5:
                    fill(ours)
                    waiting.append(asyncio.ensure_future(loop.sock_sendall(ours, b"more")))
                await turns(dice.randrange(3))
                if dice.random() < 0.5:
                    peer.send(b"hello")
                await turns(dice.randrange(3))
                for task in waiting:
                    task.cancel()
                if (
                    len(waiting) == 2 or dice.random() < 0.5
                ):  # The stock loop trips over a socket closed with two waiting.
                    await asyncio.wait(waiting)
            await asyncio.wait(waiting)
            for task in waiting:
                assert task.cancelled() or task.result() in (b"hello", None)
        assert open_descriptors() == before

    run(main())
