"""What the tests of pipes share: a protocol that writes down what it is told, and ways to wait."""

import asyncio


class Recorder(asyncio.Protocol):
    """Writes down what it is told."""

    def __init__(self):
        self.calls = []
        self.data = b""
        self.lost = asyncio.get_running_loop().create_future()
        self.transport = None

    @property
    def names(self):
        return [name for name, *_ in self.calls]

    def connection_made(self, transport):
        self.transport = transport
        self.calls.append(("connection_made", transport))

    def data_received(self, data):
        assert type(data) is bytes
        self.data += data
        self.calls.append(("data_received", data))

    def eof_received(self):
        self.calls.append(("eof_received",))

    def connection_lost(self, exc):
        self.calls.append(("connection_lost", exc))
        self.lost.set_result(exc)

    def pause_writing(self):
        self.calls.append(("pause_writing",))

    def resume_writing(self):
        self.calls.append(("resume_writing",))


async def within(awaitable, seconds=5):
    return await asyncio.wait_for(awaitable, seconds)


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)
