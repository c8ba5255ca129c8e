"""The loop's methods for sockets of the program's own: `sock_recv`, `sock_connect` and their like."""

import asyncio
import os
import socket

import pytest

from .support import LOCALHOST, in_thread, read_exactly, turns, until, within


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
