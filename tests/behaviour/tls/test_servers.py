"""TLS servers."""

import asyncio
import socket
import struct

from ..support import LOCALHOST, Recorder, open_descriptors, until, within


def test_a_tls_server_and_a_tls_client_on_one_loop(run, loop, client_tls, server_tls):
    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    async def client(port, n):
        reader, writer = await asyncio.open_connection(LOCALHOST, port, ssl=client_tls, server_hostname="localhost")
        for m in range(5):
            writer.write(b"line %d of client %d\n" % (m, n))
            assert await reader.readline() == b"LINE %d OF CLIENT %d\n" % (m, n)
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_server(serve, LOCALHOST, 0, ssl=server_tls)
        port = server.sockets[0].getsockname()[1]
        await within(asyncio.gather(*(client(port, n) for n in range(30))), 20)
        server.close()
        await within(server.wait_closed())

    run(main())


def test_bad_handshakes_do_not_hurt_a_server(run, loop, client_tls, server_tls):
    async def main():
        server = await loop.create_server(Recorder, LOCALHOST, 0, ssl=server_tls, ssl_handshake_timeout=0.5)
        address = server.sockets[0].getsockname()
        before = open_descriptors()
        for garbage in (b"", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(100), b"\x16"):
            with socket.create_connection(address) as client:
                client.send(garbage)
                if garbage != b"\x16":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await asyncio.sleep(0.01)
        transport, protocol = await within(
            loop.create_connection(Recorder, *address, ssl=client_tls, server_hostname="localhost")
        )
        transport.close()
        await within(protocol.lost)
        await until(lambda: open_descriptors() == before)
        server.close()
        await within(server.wait_closed())

    run(main())
