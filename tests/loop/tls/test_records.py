"""Many writes, one record."""

import asyncio
import os

from .ends import close_both, connect, ferrio_only, turns, until, with_blocking_peer


@ferrio_only
def test_small_writes_of_one_turn_share_a_record(run, server_tls, client_tls):
    async def main():
        protocol, peer = await with_blocking_peer(server_tls, client_tls)
        for part in [b"head", b"er ", b"and ", b"body"]:
            protocol.transport.write(part)
        # recv() returns one record at most.
        assert await asyncio.get_running_loop().run_in_executor(None, peer.recv, 100) == b"header and body"
        peer.close()
        await protocol.lost

    assert run(main) == []


def test_what_is_written_between_two_runs_of_the_loop_leaves_at_once(new_loop, server_tls, client_tls):
    loop = new_loop()
    protocol, peer = loop.run_until_complete(with_blocking_peer(server_tls, client_tls))
    protocol.transport.write(b"now")
    assert peer.recv(100) == b"now"
    peer.close()
    loop.run_until_complete(protocol.lost)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_the_order_of_small_and_large_writes_is_kept(run, server_tls, client_tls):
    async def main():
        server, client = await connect(server_tls, client_tls)
        pieces = [os.urandom(size) for size in (1, 16_000, 400, 16_384, 70_000, 3, 1_000_000, 16_385, 65_536, 9)]
        for piece in pieces:
            client.transport.write(piece)
        await turns(2)
        client.transport.writelines(pieces)
        await until(lambda: server.data == b"".join(pieces) * 2)
        await close_both(server, client)

    assert run(main) == []
