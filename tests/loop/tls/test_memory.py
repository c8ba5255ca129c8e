"""What is left of a TLS connection: nothing."""

import asyncio
import contextlib
import gc
import ssl
import warnings
import weakref

import pytest

from .ends import Recorder, close_both, connect, connected_pair, ferrio_only, turns, with_blocking_peer


def test_an_ended_connection_leaves_nothing_to_the_garbage_collector(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        await close_both(server, client)
        client.transport = server.transport = None
        seen = [weakref.ref(client), weakref.ref(server)]
        del server, client
        await turns(3)
        assert [ref() for ref in seen] == [None, None]

    gc.disable()
    try:
        assert run(main) == []
    finally:
        gc.enable()


@ferrio_only  # asyncio's own leaves cycles before 3.14.
@pytest.mark.parametrize("upgrade", [False, True], ids=["create_connection", "start_tls"])
def test_a_refused_certificate_leaves_nothing_to_the_garbage_collector(run, server_tls, upgrade):
    stranger = ssl.create_default_context()
    seen = []

    async def refused(ours):
        loop = asyncio.get_running_loop()
        options = {"server_hostname": "localhost"}
        with pytest.raises(ssl.SSLCertVerificationError):
            if upgrade:
                transport, protocol = await loop.create_connection(asyncio.Protocol, sock=ours)
                seen.append(weakref.ref(transport))
                await loop.start_tls(transport, protocol, stranger, **options)
            else:
                await loop.create_connection(asyncio.Protocol, sock=ours, ssl=stranger, **options)

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = connected_pair()
        seen.append(weakref.ref(ours))
        serving = asyncio.ensure_future(loop.connect_accepted_socket(Recorder, theirs, ssl=server_tls))
        connecting = refused(ours)
        del ours
        await connecting
        del connecting
        await asyncio.wait([serving])
        assert serving.exception() is not None
        await turns(3)
        assert [ref() for ref in seen] == [None] * len(seen)

    gc.disable()
    try:
        assert run(main) == []
    finally:
        gc.enable()


def test_a_connection_that_is_dropped_open_warns_and_is_collected(new_loop, server_tls, client_tls):
    loop = new_loop()
    protocol, peer = loop.run_until_complete(with_blocking_peer(server_tls, client_tls))
    loop.run_until_complete(loop.shutdown_default_executor())
    seen = weakref.ref(protocol)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
        del protocol, loop
        gc.collect()
        gc.collect()
    # asyncio's own is kept alive by something in 3.15.
    assert seen() is None or new_loop is asyncio.SelectorEventLoop
    assert any("unclosed transport" in str(warning.message) for warning in caught)
    with contextlib.suppress(OSError):
        peer.close()
