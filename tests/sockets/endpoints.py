"""Datagram endpoints whose protocol notes what it is told."""

import asyncio
import socket
import sys

ANY = ("127.0.0.1", 0)
SENDS_EMPTY = sys.version_info >= (3, 13)


class Recorder(asyncio.DatagramProtocol):
    """Notes what it is told, and tells who waits."""

    def __init__(self):
        self.events = []
        self.news = asyncio.Event()

    def note(self, *event):
        self.events.append(event)
        self.news.set()

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def datagram_received(self, data, addr):
        self.note("received", data, addr)

    def error_received(self, exc):
        self.note("error", type(exc), exc.errno)

    def connection_lost(self, exc):
        self.note("lost", exc)

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")

    async def until(self, kind):
        """Wait for an event of that kind; returns the last one."""
        while not (found := [event for event in self.events if event[0] == kind]):
            self.news.clear()
            await self.news.wait()
        return found[-1]

    @property
    def received(self):
        return [event[1] for event in self.events if event[0] == "received"]


async def endpoint(loop, **options):
    return await loop.create_datagram_endpoint(Recorder, **options)


async def closed(*transports):
    protocols = [transport.get_protocol() for transport in transports]
    for transport in transports:
        transport.close()
    for protocol in protocols:
        await protocol.until("lost")


async def udp_pair(loop):
    """A server and a client that is connected to it."""
    server, server_protocol = await endpoint(loop, local_addr=ANY)
    client, client_protocol = await endpoint(loop, remote_addr=server.get_extra_info("sockname"))
    return server, server_protocol, client, client_protocol


async def stuffed(loop, far):
    """An endpoint whose peer does not read: its last datagram waits."""
    transport, protocol = await endpoint(loop, family=socket.AF_UNIX, remote_addr=far.getsockname())
    while not transport.get_write_buffer_size():
        transport.sendto(bytes(100))
    return transport, protocol


def drain(sock):
    received = []
    try:
        while True:
            received.append(sock.recv(1 << 16))
    except BlockingIOError:
        return received
