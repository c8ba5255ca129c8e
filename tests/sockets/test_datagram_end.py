"""The end of a datagram endpoint."""

import asyncio
import gc
import os
import warnings

import pytest

from .conftest import turns
from .endpoints import ANY, Recorder, closed, drain, endpoint, stuffed, udp_pair


def test_close_waits_until_what_is_queued_has_left(run, far):
    async def main(loop):
        transport, protocol = await stuffed(loop, far)
        transport.sendto(b"last")
        transport.close()
        assert transport.is_closing()
        await turns()
        assert ("lost", None) not in protocol.events
        received = []
        while ("lost", None) not in protocol.events:
            received += drain(far)
            await asyncio.sleep(0)
        assert (received + drain(far))[-1] == b"last"

    run(main)


def test_abort_throws_away_what_is_queued(run, far):
    async def main(loop):
        transport, protocol = await stuffed(loop, far)
        transport.sendto(b"last")
        transport.abort()
        await protocol.until("lost")
        assert b"last" not in drain(far)

    run(main)


def test_connection_lost_comes_later_and_once(run):
    async def main(loop):
        server, protocol = await endpoint(loop, local_addr=ANY)
        server.close()
        server.close()
        server.abort()
        assert protocol.events == [("made",)]
        await turns()
        assert protocol.events == [("made",), ("lost", None)]

    run(main)


def test_sendto_after_the_end_is_dropped_and_warned_about(run, caplog):
    async def main(loop):
        server, _, client, client_protocol = await udp_pair(loop)
        await closed(server, client)
        for _ in range(10):
            client.sendto(b"x")

    run(main)
    warned = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert set(warned) == {"socket.send() raised exception."}


@pytest.mark.usefixtures("can_pause")
def test_an_unclosed_endpoint_is_warned_about(run):
    async def main(loop):
        # Watched endpoints are kept alive by the loop; one that pauses is not.
        server, protocol = await endpoint(loop, local_addr=ANY)
        server.pause_reading()
        del protocol.transport
        return server

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        server = run(main)
        fd = server.get_extra_info("socket").fileno()
        del server
        gc.collect()
    texts = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
    assert any("unclosed transport" in text for text in texts)
    with pytest.raises(OSError):
        os.fstat(fd)


def test_the_descriptor_is_closed_after_connection_lost(run):
    async def main(loop):
        fds = []

        class Protocol(Recorder):
            def connection_lost(self, exc):
                fds.append(self.transport.get_extra_info("socket").fileno())
                super().connection_lost(exc)

        server, protocol = await loop.create_datagram_endpoint(Protocol, local_addr=ANY)
        await closed(server)
        assert fds[0] != -1
        assert server.get_extra_info("socket").fileno() == -1
        assert server.get_extra_info("sockname")[0] == "127.0.0.1"

    run(main)
