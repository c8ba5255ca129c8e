"""What a TLS transport is and tells, and what it refuses."""

import asyncio
import contextvars
import ssl

import pytest

from .ends import Recorder, close_both, connect, connected_pair, until


def test_a_tls_transport_is_an_asyncio_transport(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        transport = client.transport
        assert isinstance(transport, asyncio.Transport)
        assert "SSL" in type(transport).__name__
        assert transport.get_protocol() is client
        assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
        assert transport.is_reading() and not transport.is_closing()
        await close_both(server, client)
        assert transport.is_closing()

    assert run(main) == []


def test_what_a_tls_transport_writes_must_be_bytes(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got str"):
            client.transport.write("text")
        for data in b"1", bytearray(b"2"), memoryview(b"3"), b"":
            client.transport.write(data)
        client.transport.writelines([b"4", b"", bytearray(b"5")])
        await until(lambda: server.data == b"12345")
        await close_both(server, client)

    assert run(main) == []


def test_extra_information_comes_from_both_layers(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        ask = client.transport.get_extra_info
        assert ask("ssl_object").version() == "TLSv1.3"
        assert ask("sslcontext") is client_tls
        assert ask("cipher") == ask("ssl_object").cipher()
        assert ask("peername") == server.transport.get_extra_info("sockname")
        assert ask("peercert")["subjectAltName"] == (("DNS", "localhost"),)
        assert server.transport.get_extra_info("peercert") is None
        assert server.transport.get_extra_info("peercert", "default") is None
        assert ask("nonsense") is None and ask("nonsense", 1) == 1
        await close_both(server, client)
        # What TLS knows stays; what the socket knew went with it.
        assert ask("sslcontext") is client_tls
        assert ask("ssl_object").version() == "TLSv1.3"
        assert ask("peername") is None

    assert run(main) == []


@pytest.mark.parametrize("low, high", [(-1, None), (10, 5)])
def test_water_marks_must_make_sense(run, server_tls, client_tls, low, high):
    async def main():
        server, client = await connect(server_tls, client_tls)
        for setter in client.transport.set_write_buffer_limits, client.transport.set_read_buffer_limits:
            with pytest.raises(ValueError, match="must be >= low"):
                setter(high=high, low=low)
        await close_both(server, client)

    assert run(main) == []


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_timeouts_must_be_positive(run, client_tls, name):
    async def main():
        ours, theirs = connected_pair()
        with ours, theirs, pytest.raises(ValueError, match=f"{name} should be a positive number, got -0.5"):
            connecting = asyncio.get_running_loop().create_connection
            await connecting(Recorder, sock=ours, ssl=client_tls, server_hostname="localhost", **{name: -0.5})

    assert run(main) == []


def test_a_server_needs_a_context(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = connected_pair()
        with ours, theirs, pytest.raises(ValueError, match="Server side SSL needs a valid SSLContext"):
            await loop.connect_accepted_socket(Recorder, ours, ssl=True)

    assert run(main) == []


def test_true_stands_for_the_default_context_which_distrusts_strangers(run, server_tls):
    async def main():
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(server_tls, True)

    run(main)


def test_the_protocol_is_called_in_the_context_in_which_it_was_connected(run, server_tls, client_tls):
    where = contextvars.ContextVar("where", default=None)

    class Protocol(Recorder):
        def __init__(self):
            super().__init__()
            self.seen = {}
            for name in "connection_made", "data_received", "eof_received", "pause_writing", "resume_writing":
                setattr(self, name, self.spy(name, getattr(self, name)))

        def spy(self, name, method):
            def call(*args):
                self.seen[name] = where.get()
                return method(*args)

            return call

        def connection_lost(self, exc):
            self.seen["connection_lost"] = where.get()
            super().connection_lost(exc)

    async def main():
        where.set("connecting")
        server, client = await connect(server_tls, client_tls, client=Protocol)
        where.set("later")
        for _ in range(32):
            client.transport.write(bytes(1 << 20))
        await until(lambda: len(server.data) == 32 << 20)
        server.transport.write(b"x")
        await until(lambda: client.data)
        server.transport.close()
        await client.lost
        assert client.seen.pop("pause_writing") == "later"  # From inside write().
        assert client.seen.pop("resume_writing") in {"connecting", "later"}  # asyncio: that of the write which waited.
        assert set(client.seen.values()) == {"connecting"}
        assert len(client.seen) == 4

    assert run(main) == []
