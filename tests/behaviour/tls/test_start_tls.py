"""`start_tls`: a connection that is upgraded, or cannot be."""

import asyncio
import inspect
import socket
import ssl
import sys
import time

import pytest

from ..support import LOCALHOST, Recorder, in_thread, read_all, read_exactly, transport_over, turns, until, within
from .ends import finish, wrap


def test_start_tls_upgrades_a_connection_and_keeps_its_protocol(run, loop, sockets, client_tls, server_tls):
    ours, peer = sockets

    async def main():
        transport, protocol = await transport_over(ours)
        transport.write(b"STARTTLS\r\n")
        assert await in_thread(read_exactly, peer, 10) == b"STARTTLS\r\n"
        wrapping = in_thread(lambda: wrap(peer, server_tls, server_side=True))
        secure = await within(loop.start_tls(transport, protocol, client_tls, server_hostname="localhost"))
        assert secure is not transport
        assert secure.get_protocol() is protocol
        tls_peer = await wrapping
        secure.write(b"secret")
        assert await in_thread(read_exactly, tls_peer, 6) == b"secret"
        await in_thread(tls_peer.send, b"answer")
        await until(lambda: protocol.data == b"answer")
        assert protocol.names.count("connection_made") == 1
        await finish(secure, protocol, tls_peer)

    run(main())


@pytest.mark.parametrize("waits", [False, True], ids=["in-the-same-turn", "while-reading-is-paused"])
def test_what_arrives_before_start_tls_goes_to_tls_and_not_to_the_old_protocol(
    run, loop, sockets, client_tls, server_tls, waits
):
    ours, peer = sockets

    async def main():
        transport, old = await transport_over(ours)
        if waits:
            transport.pause_reading()
        wrapping = in_thread(lambda: wrap(peer, client_tls, server_hostname="localhost"))
        # Blocks the loop until the ClientHello is there; nothing but start_tls itself may touch it after.
        time.sleep(0.05)
        if waits:
            await turns(10)
        new = Recorder()
        secure = await within(loop.start_tls(transport, new, server_tls, server_side=True))
        tls_peer = await wrapping
        await in_thread(tls_peer.send, b"hello")
        await until(lambda: new.data == b"hello")
        assert old.data == b""
        await finish(secure, new, tls_peer)

    run(main())


TAKES_FROM_THE_READER = "StreamReaderProtocol" in inspect.getsource(asyncio.base_events.BaseEventLoop.start_tls)


@pytest.mark.stock_differs(
    "what the stream has read already is lost to TLS (cured in later releases)", when=not TAKES_FROM_THE_READER
)
@pytest.mark.timeout(15)
def test_what_a_stream_has_read_before_start_tls_goes_to_tls(run, loop, client_tls, server_tls):
    """A client that sends its ClientHello in the same segment as the line before it."""
    got = []

    async def serve(reader, writer):
        try:
            assert await reader.readline() == b"STARTTLS\n"
            await asyncio.sleep(0.02)
            await writer.start_tls(server_tls, ssl_handshake_timeout=1)
            got.append(await reader.readexactly(5))
            writer.close()
        except (OSError, ssl.SSLError) as error:
            got.append(error)

    def client(address):
        with socket.create_connection(address) as sock:
            sock.settimeout(3)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = client_tls.wrap_bio(incoming, outgoing, server_hostname="localhost")
            first = b"STARTTLS\n"
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sock.sendall(first + outgoing.read())
                    first = b""
                    answer = sock.recv(65536)
                    if not answer:
                        return
                    incoming.write(answer)
                except ssl.SSLError:
                    return
            tls.write(b"hello")
            sock.sendall(outgoing.read())
            sock.shutdown(socket.SHUT_WR)
            read_all(sock)

    async def main():
        server = await asyncio.start_server(serve, LOCALHOST, 0)
        client_side = in_thread(client, server.sockets[0].getsockname())
        await until(lambda: got)
        server.close()
        await asyncio.wait([client_side])

    run(main())
    assert got == [b"hello"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before 3.12 this waits for the time limit of the handshake")
def test_start_tls_of_a_transport_that_was_closed_gives_none(run, loop, sockets, client_tls):
    """Nobody must take the connection for an encrypted one."""
    ours, _ = sockets

    async def main():
        transport, protocol = await transport_over(ours)
        transport.close()
        assert await within(loop.start_tls(transport, protocol, client_tls, server_hostname="localhost")) is None

    run(main())


def test_start_tls_refuses_what_it_cannot_upgrade(run, loop, client_tls):
    async def main():
        with pytest.raises(TypeError):
            await loop.start_tls(object(), Recorder(), client_tls)
        a, b = socket.socketpair()
        with b:
            transport, protocol = await transport_over(a)
            with pytest.raises(TypeError):
                await loop.start_tls(transport, protocol, "no context")
            transport.close()
            await within(protocol.lost)

    run(main())


def test_a_failed_start_tls_closes_the_connection(run, loop, sockets, client_tls):
    ours, peer = sockets

    async def main():
        transport, protocol = await transport_over(ours)
        peer.send(b"this is not TLS\r\n" * 10)
        with pytest.raises(ssl.SSLError):
            await within(loop.start_tls(transport, protocol, client_tls, server_hostname="localhost"))
        assert transport.is_closing()
        await turns(5)
        assert ours.fileno() == -1

    run(main())
