"""What a datagram transport is, and what it tells about itself."""

import asyncio
import contextvars
import socket
import sys

from .conftest import turns
from .endpoints import ANY, Recorder, closed, endpoint, udp_pair


def test_it_is_a_datagram_transport(run):
    async def main(loop):
        server, protocol = await endpoint(loop, local_addr=ANY)
        assert isinstance(server, asyncio.BaseTransport)
        assert isinstance(server, asyncio.Transport)
        if sys.version_info >= (3, 12):
            assert isinstance(server, asyncio.DatagramTransport)
        assert server.get_protocol() is protocol
        other = Recorder()
        server.set_protocol(other)
        assert server.get_protocol() is other
        with socket.socket(type=socket.SOCK_DGRAM) as plain:
            plain.sendto(b"x", server.get_extra_info("sockname"))
        await other.until("received")
        assert protocol.received == []
        await closed(server)

    run(main)


def test_extra_info(run):
    async def main(loop):
        server, _, client, _ = await udp_pair(loop)
        sock = server.get_extra_info("socket")
        assert type(sock) is asyncio.trsock.TransportSocket
        assert sock.getsockname() == server.get_extra_info("sockname")
        assert server.get_extra_info("peername") is None
        assert server.get_extra_info("peername", "default") is None
        assert client.get_extra_info("peername") == server.get_extra_info("sockname")
        assert client.get_extra_info("unknown") is None
        assert client.get_extra_info("unknown", 5) == 5
        await closed(server, client)

    run(main)


def test_repr(run):
    async def main(loop):
        server, _ = await endpoint(loop, local_addr=ANY)
        fd = server.get_extra_info("socket").fileno()
        assert repr(server).endswith(f"DatagramTransport fd={fd} read=polling write=<idle, bufsize=0>>")
        server.close()
        assert repr(server).endswith(f"DatagramTransport closing fd={fd} read=idle write=<idle, bufsize=0>>")
        await turns()
        assert repr(server).endswith(f"DatagramTransport closed fd={fd}>")

    run(main)


def test_callbacks_run_in_the_context_of_the_maker(run):
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []

    class Protocol(Recorder):
        def note(self, *event):
            seen.append((event[0], variable.get()))
            super().note(*event)

    async def main(loop):
        variable.set("inside")
        server, protocol = await loop.create_datagram_endpoint(Protocol, local_addr=ANY)
        with socket.socket(type=socket.SOCK_DGRAM) as plain:
            plain.sendto(b"x", server.get_extra_info("sockname"))
        await protocol.until("received")
        await closed(server)

    run(main)
    assert seen == [("made", "inside"), ("received", "inside"), ("lost", "inside")]
