"""What a transport tells about its socket."""

import asyncio
import socket

import pytest

from .support import transport_over, turns, within


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
