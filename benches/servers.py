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
from functools import partial
from pathlib import Path

from benches.loops import class_name, factory, namespace

MIB = 1024 * 1024
PAYLOAD = bytes(i % 251 for i in range(MIB))
BACKLOG = 1024


def announce(loop, address, **more):
    print(json.dumps({"loop": class_name(loop), "address": address, **more}), flush=True)


# What listens.


def tcp_socket():
    # asyncio sets TCP_NODELAY only where the socket says that it is TCP, which one from socket.create_server does not.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def inet_address(kind, sock):
    # A loop may keep the socket to itself once it serves on it: the address is asked for before.
    host, port = sock.getsockname()
    return f"{kind}:{host}:{port}"


def unix_path():
    # In TMPDIR, which goes with the process.
    return f"{tempfile.mkdtemp()}/bench.sock"


def certificate():
    """Files: the server's certificate chain with its key, and the certificate of who signed it."""
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    folder = Path(tempfile.mkdtemp())
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    return str(folder / "server.pem"), str(folder / "authority.pem")


# What is done on a connection.


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Sink(Echo):
    """Says with a byte that a MiB has come."""

    received = 0

    def data_received(self, data):
        self.received += len(data)
        while self.received >= MIB:
            self.received -= MIB
            self.transport.write(b".")


class Source(Echo):
    """Gives a MiB for a byte."""

    def data_received(self, data):
        for _ in data:
            self.transport.write(PAYLOAD)


class BufferedEcho(asyncio.BufferedProtocol):
    def __init__(self):
        self.buffer = bytearray(256 * 1024)
        self.view = memoryview(self.buffer)

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, count):
        # What is not sent at once is still needed when the buffer is filled again.
        self.transport.write(bytes(self.view[:count]))


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


def handler(exchange):
    """A stream's life: the exchange again and again, until the client leaves."""

    async def handle(reader, writer):
        # The client leaves with a request under way, which resets the connection. (rsloop: as a RuntimeError.)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, RuntimeError):
            while await exchange(reader, writer):
                await writer.drain()
        writer.close()

    return handle


async def echo_stream(reader, writer):
    data = await reader.read(64 * 1024)
    writer.write(data)
    return data


async def sink_stream(reader, writer):
    received = 0
    while received < MIB:
        data = await reader.read(min(256 * 1024, MIB - received))
        if not data:
            return False
        received += len(data)
    writer.write(b".")
    return True


async def source_stream(reader, writer):
    await reader.readexactly(1)
    writer.write(PAYLOAD)
    return True


# Listening and doing: each announces itself and then serves.


async def tcp_protocol(protocol, loop):
    sock = tcp_socket()
    address = inet_address("tcp", sock)
    server = await loop.create_server(protocol, sock=sock, backlog=BACKLOG)
    announce(loop, address)
    return server


async def tcp_streams(exchange, loop):
    sock = tcp_socket()
    address = inet_address("tcp", sock)
    server = await namespace(loop).start_server(handler(exchange), sock=sock, backlog=BACKLOG)
    announce(loop, address)
    return server


async def tcp_sock(loop):
    async def echo(connection):
        with contextlib.suppress(ConnectionError), connection:
            while data := await loop.sock_recv(connection, 256 * 1024):
                await loop.sock_sendall(connection, data)

    sock = tcp_socket()
    announce(loop, inet_address("tcp", sock))
    tasks = set()
    while True:
        connection, _ = await loop.sock_accept(sock)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(echo(connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def unix_protocol(loop):
    path = unix_path()
    server = await loop.create_unix_server(Echo, path, backlog=BACKLOG)
    announce(loop, f"unix:{path}")
    return server


async def unix_streams(loop):
    path = unix_path()
    server = await namespace(loop).start_unix_server(handler(echo_stream), path, backlog=BACKLOG)
    announce(loop, f"unix:{path}")
    return server


async def udp_protocol(loop):
    transport, _ = await loop.create_datagram_endpoint(DatagramEcho, local_addr=("127.0.0.1", 0))
    announce(loop, inet_address("udp", transport.get_extra_info("socket")))
    return transport


def tls_context():
    chain, authority = certificate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(chain)
    return context, authority


async def tls_protocol(loop):
    context, authority = tls_context()
    sock = tcp_socket()
    address = inet_address("tls", sock)
    server = await loop.create_server(Echo, sock=sock, ssl=context, backlog=BACKLOG)
    announce(loop, address, authority=authority)
    return server


async def tls_streams(loop):
    context, authority = tls_context()
    sock = tcp_socket()
    address = inet_address("tls", sock)
    server = await namespace(loop).start_server(handler(echo_stream), sock=sock, ssl=context, backlog=BACKLOG)
    announce(loop, address, authority=authority)
    return server


async def aiohttp(loop):
    from aiohttp import web

    async def hello(request):
        return web.Response(text="Hello\n")

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    sock = tcp_socket()
    address = inet_address("tcp", sock)
    await web.SockSite(runner, sock, backlog=BACKLOG).start()
    announce(loop, address)
    return runner


async def asgi(scope, receive, send):
    """`/` says Hello, `/10k` has 10 KiB to say."""
    body = PAYLOAD[:10_240] if scope["path"] == "/10k" else b"Hello\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def uvicorn(spec, tls=False):
    import uvicorn

    chain, authority = certificate() if tls else (None, None)

    class Announcing(uvicorn.Server):
        async def startup(self, sockets=None):
            address = inet_address("tls" if tls else "tcp", sockets[0])
            await super().startup(sockets)
            announce(asyncio.get_running_loop(), address, **({"authority": authority} if tls else {}))

    config = uvicorn.Config(
        asgi, loop=spec, http="httptools", lifespan="off", log_level="warning", access_log=False, ssl_certfile=chain
    )
    Announcing(config).run(sockets=[tcp_socket()])


def asyncio_server(start):
    def run(spec):
        async def main():
            loop = asyncio.get_running_loop()
            keep = await start(loop)
            await loop.create_future()
            del keep

        with asyncio.Runner(loop_factory=factory(spec)) as runner:
            runner.run(main())

    return run


STARTERS = {
    "tcp_protocol": partial(tcp_protocol, Echo),
    "tcp_buffered": partial(tcp_protocol, BufferedEcho),
    "tcp_streams": partial(tcp_streams, echo_stream),
    "tcp_sock": tcp_sock,
    "tcp_sink": partial(tcp_protocol, Sink),
    "tcp_source": partial(tcp_protocol, Source),
    "tcp_sink_streams": partial(tcp_streams, sink_stream),
    "tcp_source_streams": partial(tcp_streams, source_stream),
    "unix_protocol": unix_protocol,
    "unix_streams": unix_streams,
    "udp_protocol": udp_protocol,
    "tls_protocol": tls_protocol,
    "tls_streams": tls_streams,
    "aiohttp": aiohttp,
}
KINDS = {name: asyncio_server(start) for name, start in STARTERS.items()}
KINDS |= {"uvicorn": uvicorn, "uvicorn_tls": partial(uvicorn, tls=True)}

if __name__ == "__main__":
    kind, spec = sys.argv[1:]
    KINDS[kind](spec)
