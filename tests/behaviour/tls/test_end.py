"""The end of a TLS connection: by either side, in good order or not, and before it has begun."""

import asyncio
import os
import threading
import time

import pytest

from ..support import in_thread, read_all, transport_over, turns, until, within
from .ends import VERSIONS


@VERSIONS
@pytest.mark.parametrize("server_side", [False, True])
def test_close_sends_what_is_buffered_and_then_close_notify(run, pair, client_tls, version, server_side):
    client_tls.minimum_version = client_tls.maximum_version = version

    async def main():
        transport, protocol, peer = await pair(server_side=server_side)
        data = os.urandom(2 << 20)
        transport.write(data)
        transport.close()
        assert transport.is_closing()
        assert "connection_lost" not in protocol.names
        # An end without close_notify would raise SSLEOFError here.
        assert await within(in_thread(read_all, peer), 15) == data
        peer.close()
        assert await within(protocol.lost) is None

    run(main())


@VERSIONS
def test_close_waits_for_a_silent_peer_no_longer_than_the_shutdown_timeout(run, pair, client_tls, errors, version):
    client_tls.minimum_version = client_tls.maximum_version = version

    async def main():
        transport, protocol, peer = await pair(ssl_shutdown_timeout=0.2)
        transport.write(b"x" * 100)
        started = time.monotonic()
        transport.close()
        await within(protocol.lost, 3)
        assert time.monotonic() - started < 3
        peer.close()

    run(main())
    errors.clear()  # It may say that the shutdown timed out.


def test_close_does_not_wait_for_a_peer_that_keeps_sending(run, pair, errors):
    async def main():
        transport, protocol, peer = await pair(ssl_shutdown_timeout=0.3)
        stopped = threading.Event()

        def send_for_ever():
            try:
                while not stopped.is_set():
                    peer.send(b"x" * 1000)
            except OSError:
                pass

        sending = in_thread(send_for_ever)
        await until(lambda: protocol.data)
        transport.close()
        await within(protocol.lost, 3)
        stopped.set()
        received = len(protocol.data)
        await sending
        await turns(5)
        assert len(protocol.data) == received
        peer.close()

    run(main())
    errors.clear()


def test_abort_waits_for_nothing(run, pair):
    async def main():
        transport, protocol, peer = await pair(ssl_shutdown_timeout=60)
        transport.write(bytes(8 << 20))
        started = time.monotonic()
        transport.abort()
        await within(protocol.lost)
        assert time.monotonic() - started < 5
        peer.close()

    run(main())


def test_the_peers_close_notify_is_heard_as_the_end(run, pair):
    async def main():
        transport, protocol, peer = await pair()
        await in_thread(peer.send, b"last words")
        await within(in_thread(lambda: peer.unwrap()))
        assert await within(protocol.lost) is None
        assert protocol.names == ["connection_made", "data_received", "eof_received", "connection_lost"]

    run(main())


def test_a_peer_that_vanishes_without_close_notify_ends_the_connection(run, pair):
    async def main():
        transport, protocol, peer = await pair()
        peer.close()
        await within(protocol.lost)

    run(main())


def test_writes_after_close_are_dropped_silently_over_tls(run, pair):
    async def main():
        transport, protocol, peer = await pair()
        transport.write(b"before")
        transport.close()
        transport.write(b"after")
        assert await within(in_thread(read_all, peer)) == b"before"
        peer.close()
        await within(protocol.lost)
        transport.write(b"long after")

    run(main())


def test_a_handshake_nobody_answers_times_out(run, loop, sockets, client_tls):
    async def main():
        before = time.monotonic()
        with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than 0.1 seconds"):
            await transport_over(sockets[0], ssl=client_tls, server_hostname="localhost", ssl_handshake_timeout=0.1)
        assert 0.09 < time.monotonic() - before < 3
        await turns(5)
        assert sockets[0].fileno() == -1

    run(main())


def test_cancelling_a_handshake_closes_the_socket(run, loop, sockets, client_tls):
    async def main():
        connecting = asyncio.ensure_future(transport_over(sockets[0], ssl=client_tls, server_hostname="localhost"))
        await asyncio.sleep(0.02)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await turns(5)
        assert sockets[0].fileno() == -1

    run(main())
