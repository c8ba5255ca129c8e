"""Both ends of a TLS connection: ours on the loop, and a peer that blocks."""

import asyncio
import ssl

import pytest

from ..support import Recorder, in_thread, read_all, transport_over, within

VERSIONS = pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name
)


def wrap(sock, context, **options):
    """The peer's side of a TLS connection, on a blocking socket: tell apart a clean end from a ragged one."""
    options.setdefault("suppress_ragged_eofs", False)
    return context.wrap_socket(sock, **options)


async def tls_pair(sockets, client_tls, server_tls, factory=Recorder, server_side=False, **options):
    """`(transport, protocol, peer)`: ours on the loop, the peer a blocking SSL socket."""
    ours, peer = sockets
    if server_side:
        wrapping = in_thread(lambda: wrap(peer, client_tls, server_hostname="localhost"))
        connecting = asyncio.get_running_loop().connect_accepted_socket(factory, ours, ssl=server_tls, **options)
    else:
        wrapping = in_thread(lambda: wrap(peer, server_tls, server_side=True))
        connecting = transport_over(ours, factory, ssl=client_tls, **{"server_hostname": "localhost", **options})
    # Both, so that a handshake refused on one side does not leave the other's error unseen.
    connected, wrapped = await asyncio.gather(connecting, wrapping, return_exceptions=True)
    for result in (connected, wrapped):
        if isinstance(result, BaseException):
            raise result
    return *connected, wrapped


async def finish(transport, protocol, peer):
    """End a connection from our side, the peer answering as it should."""
    transport.close()
    with peer:
        await in_thread(read_all, peer)
    await within(protocol.lost)
