"""TLS over a connection that is there already: upgrades, TLS over TLS, and transports of other makers."""

import asyncio
import os

from .ends import Recorder, close_both, connect, connected_pair, until


def test_both_ends_of_a_connection_may_be_upgraded_in_the_middle_of_it(run, server_tls, client_tls):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = connected_pair()
        plain_client, client = await loop.create_connection(Recorder, sock=ours)
        plain_server, server = await loop.connect_accepted_socket(Recorder, theirs)
        plain_client.write(b"plain")
        await until(lambda: server.data == b"plain")
        client.transport, server.transport = await asyncio.gather(
            loop.start_tls(plain_client, client, client_tls, server_hostname="localhost"),
            loop.start_tls(plain_server, server, server_tls, server_side=True),
        )
        client.transport.write(b" secret")
        server.transport.write(b"answer")
        await until(lambda: server.data == b"plain secret" and client.data == b"answer")
        assert client.calls.count("made") == server.calls.count("made") == 1
        await close_both(client, server)
        assert client.calls == ["made", "data", "eof", "lost"] or client.calls == ["made", "data", "lost"]

    assert run(main) == []


def test_tls_runs_over_tls(run, server_tls, client_tls):
    async def main():
        loop = asyncio.get_running_loop()
        server, client = await connect(server_tls, client_tls)
        outer = client.transport
        client.transport, server.transport = await asyncio.gather(
            loop.start_tls(client.transport, client, client_tls, server_hostname="localhost"),
            loop.start_tls(server.transport, server, server_tls, server_side=True),
        )
        assert client.transport is not outer
        assert client.transport.get_extra_info("ssl_object") is not outer.get_extra_info("ssl_object")
        assert client.transport.get_extra_info("peername") == outer.get_extra_info("peername")
        data = os.urandom(3_000_000)
        client.transport.write(data)
        server.transport.write(data)
        await until(lambda: server.data == data and client.data == data)
        await close_both(client, server)
        assert outer.is_closing()

    assert run(main) == []


class Relay(asyncio.Transport, asyncio.Protocol):
    """A transport in Python, over another one."""

    _start_tls_compatible = True

    def __init__(self):
        super().__init__()
        self.upper = None

    def connection_made(self, transport):
        self.lower = transport

    def data_received(self, data):
        if isinstance(self.upper, asyncio.BufferedProtocol):
            self.upper.get_buffer(len(data))[: len(data)] = data
            self.upper.buffer_updated(len(data))
        else:
            self.upper.data_received(data)

    def eof_received(self):
        return self.upper.eof_received()

    def connection_lost(self, exc):
        self.upper.connection_lost(exc)

    def set_protocol(self, protocol):
        self.upper = protocol

    def write(self, data):
        self.lower.write(data)

    def pause_reading(self):
        self.lower.pause_reading()

    def resume_reading(self):
        self.lower.resume_reading()

    def is_closing(self):
        return self.lower.is_closing()

    def close(self):
        self.lower.close()

    def _force_close(self, exc):
        self.lower._force_close(exc)


def test_any_transport_that_says_so_can_be_upgraded(run, server_tls, client_tls):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = connected_pair()
        _, relay = await loop.create_connection(Relay, sock=ours)
        client = Recorder()
        client.transport, (_, server) = await asyncio.gather(
            loop.start_tls(relay, client, client_tls, server_hostname="localhost"),
            loop.connect_accepted_socket(Recorder, theirs, ssl=server_tls),
        )
        client.transport.write(b"through python")
        server.transport.write(b"and back")
        await until(lambda: server.data == b"through python" and client.data == b"and back")
        await close_both(client, server)

    assert run(main) == []
