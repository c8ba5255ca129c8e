"""Every way in which a TLS connection can end."""

import asyncio
import os
import socket
import ssl
import time

import pytest

from .ends import Recorder, close_both, connect, connected_pair, turns, with_blocking_peer


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
