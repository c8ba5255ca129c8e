"""Data over TLS: it flows, pauses and fails as over any other transport."""

import asyncio
import logging
import os
import ssl

import pytest

from ..support import BufferedRecorder, Recorder, in_thread, read_exactly, until, within
from .ends import VERSIONS, finish


@pytest.mark.parametrize("server_side", [False, True])
@VERSIONS
def test_data_flows_both_ways(run, pair, client_tls, version, server_side):
    client_tls.minimum_version = client_tls.maximum_version = version

    async def main():
        transport, protocol, peer = await pair(server_side=server_side)
        assert peer.version() == version.name.replace("_", ".")
        data = os.urandom(3 << 20)
        reading = in_thread(read_exactly, peer, len(data))
        transport.write(data)
        assert await within(reading, 15) == data
        await in_thread(peer.sendall, data)
        await until(lambda: len(protocol.data) == len(data))
        assert protocol.data == data
        await finish(transport, protocol, peer)
        assert protocol.names[-1] == "connection_lost"

    run(main())


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(memoryview, id="memoryview"),
        pytest.param(
            lambda buffer: buffer,
            id="bytearray",
            marks=pytest.mark.stock_differs("it slices the buffer it got, and reads into the copy"),
        ),
    ],
)
def test_a_buffered_protocol_works_over_tls(run, pair, view):
    class Protocol(BufferedRecorder):
        def get_buffer(self, sizehint):
            return view(self.buffer)

    async def main():
        transport, protocol, peer = await pair(lambda: Protocol(size=1000))
        data = os.urandom(100_000)
        await in_thread(peer.sendall, data)
        await until(lambda: len(protocol.data) == len(data))
        await finish(transport, protocol, peer)
        assert protocol.data == data

    run(main())


def test_set_protocol_takes_effect_with_the_next_event_over_tls(run, pair):
    async def main():
        transport, first, peer = await pair()
        await in_thread(peer.send, b"one")
        await until(lambda: first.data == b"one")
        second = Recorder()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        await in_thread(peer.send, b"two")
        await until(lambda: second.data == b"two")
        await finish(transport, second, peer)
        assert "connection_lost" not in first.names

    run(main())


def test_pausing_inside_data_received_stops_tls_data_and_loses_none(run, pair):
    class Protocol(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async def main():
        transport, protocol, peer = await pair(Protocol)
        data = os.urandom(1 << 20)
        sending = in_thread(peer.sendall, data)
        while len(protocol.data) < len(data):
            await until(lambda: not transport.is_reading())
            calls = len(protocol.events)
            await asyncio.sleep(0.005)
            assert len(protocol.events) == calls, "data came though reading was paused"
            transport.resume_reading()
        await sending
        assert protocol.data == data
        await finish(transport, protocol, peer)

    run(main())


def test_writing_pauses_and_resumes_in_pairs_over_tls(run, pair):
    async def main():
        transport, protocol, peer = await pair()
        size = 16 << 20
        for _ in range(16):
            transport.write(bytes(size // 16))
        assert "pause_writing" in protocol.names
        assert await within(in_thread(read_exactly, peer, size), 15) == bytes(size)
        await until(lambda: protocol.names[1:] == ["pause_writing", "resume_writing"])
        await finish(transport, protocol, peer)

    run(main())


def test_a_bytearray_may_be_changed_as_soon_as_write_returns_over_tls(run, pair):
    async def main():
        transport, protocol, peer = await pair()
        data = bytearray(b"first")
        transport.write(data)
        data[:] = b"other"
        assert await in_thread(read_exactly, peer, 5) == b"first"
        await finish(transport, protocol, peer)

    run(main())


def test_a_tls_transport_has_no_half_close(run, pair):
    async def main():
        transport, protocol, peer = await pair()
        assert transport.can_write_eof() is False
        with pytest.raises(NotImplementedError):
            transport.write_eof()
        await finish(transport, protocol, peer)

    run(main())


def test_eof_received_returning_true_closes_a_tls_transport_all_the_same(run, pair, caplog):
    class Protocol(Recorder):
        def eof_received(self):
            super().eof_received()
            return True

    async def main():
        transport, protocol, peer = await pair(Protocol)
        await in_thread(lambda: peer.unwrap())
        await within(protocol.lost)
        assert protocol.names == ["connection_made", "eof_received", "connection_lost"]

    run(main())
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        "returning true from eof_received() has no effect when using ssl"
    ]


def test_an_exception_in_data_received_is_fatal_over_tls_too(run, pair, errors):
    boom = ZeroDivisionError("on purpose")

    class Protocol(Recorder):
        def data_received(self, data):
            raise boom

    async def main():
        transport, protocol, peer = await pair(Protocol)
        await in_thread(peer.send, b"x")
        assert await within(protocol.lost) is boom
        assert errors.pop()["exception"] is boom

    run(main())


def test_a_tls_transport_tells_about_its_connection(run, pair, sockets, client_tls):
    async def main():
        transport, protocol, peer = await pair()
        assert isinstance(transport, asyncio.Transport)
        ssl_object = transport.get_extra_info("ssl_object")
        assert isinstance(ssl_object, ssl.SSLObject)
        assert ssl_object.version() == peer.version()
        assert transport.get_extra_info("sslcontext") is client_tls
        assert transport.get_extra_info("cipher") == peer.cipher()
        assert transport.get_extra_info("compression") is None
        assert ("DNS", "localhost") in transport.get_extra_info("peercert")["subjectAltName"]
        assert transport.get_extra_info("peername") == peer.getsockname()
        assert isinstance(transport.get_extra_info("socket"), asyncio.trsock.TransportSocket)
        await finish(transport, protocol, peer)

    run(main())
