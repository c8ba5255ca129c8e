"""Flow control of a TLS transport."""

import asyncio
import os

import pytest

from .ends import Recorder, close_both, connect, until, with_blocking_peer


def test_what_waits_for_a_paused_reader_is_bounded(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        client.transport.pause_reading()
        assert not client.transport.is_reading()
        data = os.urandom(16 << 20)
        for start in range(0, len(data), 1 << 20):
            server.transport.write(data[start : start + (1 << 20)])
        assert "pause" in server.calls
        await asyncio.sleep(0.1)
        assert "data" not in client.calls
        low, high = client.transport.get_read_buffer_limits()
        assert (low, high) == (64 * 1024, 256 * 1024)
        assert high <= client.transport.get_read_buffer_size() <= 2 * high
        client.transport.resume_reading()
        await until(lambda: client.data == data)
        assert client.transport.get_read_buffer_size() == 0
        assert server.calls == ["made", "pause", "resume"]
        await close_both(server, client)

    assert run(main) == []


def test_the_write_buffer_is_measured_and_its_marks_are_obeyed(run, server_tls, client_tls):
    async def main():
        protocol, peer = await with_blocking_peer(server_tls, client_tls)
        transport = protocol.transport
        transport.set_write_buffer_limits(high=1000, low=10)
        assert transport.get_write_buffer_limits() == (10, 1000)
        transport.write(b"short")
        assert transport.get_write_buffer_size() == 0
        size = 5
        while "pause" not in protocol.calls:
            transport.write(bytes(1 << 20))
            size += 1 << 20
            assert size < 100 << 20
        assert transport.get_write_buffer_size() >= 1000

        def drain():
            left = size
            while left:
                left -= len(peer.recv(1 << 20))

        await asyncio.get_running_loop().run_in_executor(None, drain)
        await until(lambda: transport.get_write_buffer_size() == 0)
        assert protocol.calls == ["made", "pause", "resume"]
        peer.close()
        await protocol.lost

    assert run(main) == []


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
def test_an_error_in_flow_control_is_reported_and_changes_nothing(run, server_tls, client_tls, name):
    boom = ValueError("on purpose")

    def fail(self):
        raise boom

    protocol_class = type("Protocol", (Recorder,), {name: fail})

    async def main():
        server, client = await connect(server_tls, client_tls, client=protocol_class)
        for _ in range(32):
            client.transport.write(bytes(1 << 20))
        await until(lambda: len(server.data) == 32 << 20)
        await close_both(server, client)

    [error] = run(main)
    assert error["exception"] is boom
    assert error["message"] == f"protocol.{name}() failed"


def test_pausing_twice_and_resuming_twice_is_harmless(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        for call in ["pause_reading"] * 2 + ["resume_reading"] * 2:
            getattr(client.transport, call)()
        server.transport.write(b"x")
        await until(lambda: client.data == b"x")
        await close_both(server, client)

    assert run(main) == []
