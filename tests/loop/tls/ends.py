"""Both ends of a TLS connection, whose protocols write down what they are told."""

import asyncio

import pytest

from ...tcp import tcp_pair

ferrio_only = pytest.mark.parametrize("new_loop", ["ferrio"], indirect=True)


class Recorder(asyncio.Protocol):
    """Writes down what it is told."""

    def __init__(self):
        self.calls = []
        self.data = bytearray()
        self.transport = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.calls.append("made")

    def data_received(self, data):
        assert type(data) is bytes and data
        self.calls.append("data")
        self.data += data

    def eof_received(self):
        self.calls.append("eof")

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")

    def connection_lost(self, exc):
        self.calls.append("lost")
        self.lost.set_result(exc)


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def connected_pair():
    """Two ends of a TCP connection."""
    ours, theirs = tcp_pair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


async def connect(server_tls, client_tls, server=Recorder, client=Recorder, **options):
    """The protocols of both ends, (server, client), each with its transport."""
    loop = asyncio.get_running_loop()
    ours, theirs = connected_pair()
    (_, client), (_, server) = await asyncio.gather(
        loop.create_connection(client, sock=ours, ssl=client_tls, server_hostname="localhost", **options),
        loop.connect_accepted_socket(server, theirs, ssl=server_tls, **options),
    )
    return server, client


async def with_blocking_peer(server_tls, client_tls, protocol=Recorder, **options):
    """A client's protocol, and the other end as a blocking SSL socket."""
    loop = asyncio.get_running_loop()
    ours, theirs = connected_pair()
    theirs.settimeout(10)
    wrapping = loop.run_in_executor(None, lambda: server_tls.wrap_socket(theirs, server_side=True))
    connecting = loop.create_connection(protocol, sock=ours, ssl=client_tls, server_hostname="localhost", **options)
    (_, protocol), peer = await asyncio.gather(connecting, wrapping)
    return protocol, peer


async def close_both(*protocols):
    for protocol in protocols:
        protocol.transport.close()
    for protocol in protocols:
        await protocol.lost
