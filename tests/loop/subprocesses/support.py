"""What the tests of child processes share: a protocol that writes down what it is told, and ways to wait."""

import asyncio
import sys

PYTHON = sys.executable


class Recorder(asyncio.SubprocessProtocol):
    """Writes down what it is told."""

    def __init__(self):
        self.calls = []
        self.data = {1: b"", 2: b""}
        self.lost = asyncio.get_running_loop().create_future()
        self.exited = asyncio.get_running_loop().create_future()

    @property
    def names(self):
        return [name for name, *_ in self.calls]

    def connection_made(self, transport):
        self.calls.append(("connection_made", transport))

    def pipe_data_received(self, fd, data):
        self.data[fd] += data
        self.calls.append(("pipe_data_received", fd, data))

    def pipe_connection_lost(self, fd, exc):
        self.calls.append(("pipe_connection_lost", fd, exc))

    def process_exited(self):
        self.calls.append(("process_exited",))
        self.exited.set_result(None)

    def connection_lost(self, exc):
        self.calls.append(("connection_lost", exc))
        self.lost.set_result(exc)


async def within(awaitable, seconds=10):
    return await asyncio.wait_for(awaitable, seconds)
