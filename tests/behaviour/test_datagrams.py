"""Datagrams: empty ones, unreachable peers, and Unix addresses."""

import asyncio
import socket
import sys

import pytest

from .support import LOCALHOST, in_thread, turns, until, within


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
