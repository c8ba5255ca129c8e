"""The servers of the network rows, one kind per process: `python -m benches.servers KIND FACTORY`.

When it listens, the server prints a line of JSON with its address and the class of its loop. It runs until it is killed.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import sys
import tempfile
from pathlib import Path

from benches.loops import class_name, factory
from benches.primitives import namespace


def announce(loop, address):
    print(json.dumps({"loop": class_name(loop), "address": address}), flush=True)


def inet_address(kind, sock):
    host, port = sock.getsockname()
    return f"{kind}:{host}:{port}"


def listening_tcp():
    # asyncio sets TCP_NODELAY only where the socket says that it is TCP, which one from socket.create_server does not.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    sock.listen(1024)
    return sock


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


async def tcp_protocol(loop):
    sock = listening_tcp()
    await loop.create_server(Echo, sock=sock)
    return inet_address("tcp", sock)


async def tcp_streams(loop):
    async def echo(reader, writer):
        # The client leaves with a request under way, which resets the connection.
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(64 * 1024):
                writer.write(data)
                await writer.drain()
        writer.close()

    sock = listening_tcp()
    await namespace(loop).start_server(echo, sock=sock)
    return inet_address("tcp", sock)


async def unix_protocol(loop):
    path = Path(tempfile.mkdtemp(prefix="ferrio-bench-")) / "echo.sock"
    await loop.create_unix_server(Echo, path)
    return f"unix:{path}"


async def udp_protocol(loop):
    transport, _ = await loop.create_datagram_endpoint(DatagramEcho, local_addr=("127.0.0.1", 0))
    return inet_address("udp", transport.get_extra_info("socket"))


async def tls_protocol(loop):
    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    sock = listening_tcp()
    await loop.create_server(Echo, sock=sock, ssl=context)
    return inet_address("tcp", sock)


def uvicorn(spec):
    import uvicorn

    class Announcing(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            announce(asyncio.get_running_loop(), inet_address("tcp", sockets[0]))

    config = uvicorn.Config(
        "examples.hello:app", loop=spec, http="httptools", lifespan="off", log_level="warning", access_log=False
    )
    Announcing(config).run(sockets=[listening_tcp()])


def asyncio_server(start):
    def run(spec):
        async def main():
            loop = asyncio.get_running_loop()
            announce(loop, await start(loop))
            await loop.create_future()

        with asyncio.Runner(loop_factory=factory(spec)) as runner:
            runner.run(main())

    return run


STARTERS = tcp_protocol, tcp_streams, unix_protocol, udp_protocol, tls_protocol
KINDS = {start.__name__: asyncio_server(start) for start in STARTERS} | {"uvicorn": uvicorn}

if __name__ == "__main__":
    kind, spec = sys.argv[1:]
    KINDS[kind](spec)
