"""What is told of handshakes, in debug mode and without it."""

import asyncio
import logging
import ssl

import pytest

from .ends import Recorder, close_both, connect


@pytest.mark.parametrize("debug", [False, True])
def test_a_failed_handshake_of_a_server_is_told_in_debug_mode_only(run, server_tls, client_tls, debug):
    client_tls.minimum_version = ssl.TLSVersion.TLSv1_3
    server_tls.maximum_version = ssl.TLSVersion.TLSv1_2

    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_tls)
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            address = server.sockets[0].getsockname()
            await loop.create_connection(Recorder, *address, ssl=client_tls, server_hostname="localhost")
        await asyncio.sleep(0.02)
        server.close()
        await server.wait_closed()

    errors = run(main, debug=debug)
    messages = [error["message"] for error in errors]
    assert messages == (["Error on transport creation for incoming connection"] if debug else [])


def test_debug_mode_tells_about_the_handshake(run, server_tls, client_tls, caplog):
    caplog.set_level(logging.DEBUG, logger="asyncio")

    async def main():
        server, client = await connect(server_tls, client_tls)
        await close_both(server, client)

    assert run(main, debug=True) == []
    words = "\n".join(record.message for record in caplog.records)
    assert "starts SSL handshake" in words
    assert "SSL handshake took" in words
