"""`connection_lost`: when it comes, how often, what it tells, and what is done by then."""

import asyncio
import socket

import pytest

from .support import LOCALHOST, Recorder, in_thread, read_all, reset, transport_over, turns, within


def test_connection_lost_is_never_called_inside_close(run, sockets):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        transport.close()
        assert "connection_lost" not in protocol.names
        assert await within(protocol.lost) is None

    run(main())


def test_connection_lost_is_never_called_inside_abort(run, sockets):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        transport.abort()
        assert "connection_lost" not in protocol.names
        assert await within(protocol.lost) is None

    run(main())


def test_connection_lost_is_never_called_inside_write(run, sockets):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        transport.pause_reading()  # So that writing is what finds out.
        reset(sockets[1])
        for _ in range(5):
            before = list(protocol.names)
            transport.write(b"x")
            assert protocol.names == before
            await asyncio.sleep(0.005)
        assert isinstance(await within(protocol.lost), OSError)

    run(main())


def test_connection_lost_arrives_once_after_buffered_data(run, sockets):
    ours, peer = sockets
    size = 8 << 20

    async def main():
        transport, protocol = await transport_over(ours)
        transport.write(bytes(size))
        assert transport.get_write_buffer_size() > 0
        transport.close()
        await turns(5)
        assert "connection_lost" not in protocol.names
        assert len(await in_thread(read_all, peer)) == size
        await within(protocol.lost)
        transport.close()
        await turns(5)
        assert protocol.names.count("connection_lost") == 1
        assert protocol.events[-1] == ("connection_lost", None)

    run(main())


@pytest.mark.parametrize("endings", [("close", "close"), ("close", "abort"), ("abort", "abort"), ("abort", "close")])
def test_connection_lost_arrives_once_however_often_the_end_is_asked_for(run, sockets, endings):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        for ending in endings:
            getattr(transport, ending)()
        await within(protocol.lost)
        await turns(5)
        transport.close()
        await turns(5)
        assert protocol.names == ["connection_made", "connection_lost"]

    run(main())


def test_abort_drops_buffered_data(run, sockets):
    ours, peer = sockets
    size = 32 << 20

    async def main():
        transport, protocol = await transport_over(ours)
        transport.write(bytes(size))
        transport.abort()
        assert await within(protocol.lost) is None
        assert transport.get_write_buffer_size() == 0
        assert len(await in_thread(read_all, peer)) < size

    run(main())


def test_connection_lost_after_the_peer_left_comes_after_eof_received(run, sockets):
    ours, peer = sockets

    async def main():
        _, protocol = await transport_over(ours)
        peer.send(b"last words")
        peer.close()
        assert await within(protocol.lost) is None
        assert protocol.events == [
            ("connection_made",),
            ("data_received", b"last words"),
            ("eof_received",),
            ("connection_lost", None),
        ]

    run(main())


def test_connection_lost_tells_the_error_after_a_reset(run, sockets):
    async def main():
        _, protocol = await transport_over(sockets[0])
        reset(sockets[1])
        assert isinstance(await within(protocol.lost), ConnectionResetError)
        assert protocol.names == ["connection_made", "connection_lost"]

    run(main())


def test_no_connection_lost_without_connection_made(run, loop, server_tls):
    """A TLS handshake that fails: the protocol never hears of that connection, neither its start nor its end."""
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    async def main():
        server = await loop.create_server(factory, LOCALHOST, 0, ssl=server_tls)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.settimeout(5)
            client.send(b"this is no TLS record at all\r\n")
            await in_thread(read_all, client)
        await asyncio.sleep(0.05)
        server.close()
        await server.wait_closed()

    run(main())
    assert [protocol.events for protocol in protocols] == [[]]


def test_the_socket_is_closed_by_the_time_connection_lost_has_run(run, sockets):
    ours, _ = sockets

    async def main():
        transport, protocol = await transport_over(ours)
        transport.close()
        assert transport.is_closing()
        await within(protocol.lost)
        await turns()
        assert ours.fileno() == -1

    run(main())


def test_state_set_after_close_is_there_when_connection_lost_comes(run, sockets):
    class Protocol(Recorder):
        reason = None

        def connection_lost(self, exc):
            super().connection_lost(self.reason)

    async def main():
        transport, protocol = await transport_over(sockets[0], Protocol)
        transport.close()
        protocol.reason = "set after close()"
        assert await within(protocol.lost) == "set after close()"

    run(main())
