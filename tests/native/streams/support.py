"""What the tests of streams share: a server, its client, and a transport that writes down what it is told."""

import asyncio
import contextlib


@contextlib.asynccontextmanager
async def served(streams, handle, **options):
    """A server on a free port, and a function that connects to it."""
    server = await streams.start_server(handle, "127.0.0.1", 0, **options)
    address = server.sockets[0].getsockname()

    async def connect(**options):
        return await streams.open_connection(*address, **options)

    try:
        yield connect
    finally:
        server.close()
        await server.wait_closed()


async def close(writer):
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def echo(reader, writer):
    while block := await reader.read(65536):
        writer.write(block)
        await writer.drain()
    await close(writer)


class Recorder(asyncio.Transport):
    """A transport that notes its calls."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.closing = False

    def write(self, data):
        self.calls.append(("write", bytes(data)))

    def pause_reading(self):
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True
