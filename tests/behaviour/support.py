"""What the tests share: protocols that write down what happens to them, and ways to wait that cannot wait for ever."""

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass

LOCALHOST = "127.0.0.1"


@dataclass(frozen=True)
class Loop:
    """A loop under test: its factory, and the line that makes `new_event_loop` in another interpreter."""

    name: str
    factory: Callable[[], asyncio.AbstractEventLoop]
    source: str


class Recorder(asyncio.Protocol):
    """Writes down every call it gets, in order, in `events`."""

    def __init__(self):
        self.events = []
        self.transport = None
        self.data = bytearray()
        self.made = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    @property
    def names(self):
        return [name for name, *_ in self.events]

    def connection_made(self, transport):
        self.transport = transport
        self.events.append(("connection_made",))
        self.made.set_result(transport)

    def data_received(self, data):
        self.events.append(("data_received", bytes(data)))
        self.data += data

    def eof_received(self):
        self.events.append(("eof_received",))

    def pause_writing(self):
        self.events.append(("pause_writing",))

    def resume_writing(self):
        self.events.append(("resume_writing",))

    def connection_lost(self, exc):
        self.events.append(("connection_lost", exc))
        if not self.lost.done():
            self.lost.set_result(exc)


class BufferedRecorder(asyncio.BufferedProtocol):
    """The same for a protocol that lends the transport its buffer."""

    def __init__(self, size=65536):
        self.buffer = bytearray(size)
        self.events = []
        self.transport = None
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.events.append(("connection_made",))

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.events.append(("buffer_updated", nbytes))
        self.data += self.buffer[:nbytes]

    def eof_received(self):
        self.events.append(("eof_received",))

    def connection_lost(self, exc):
        self.events.append(("connection_lost", exc))
        self.lost.set_result(exc)


def collect():
    for _ in range(3):
        gc.collect()


async def turns(count=1):
    """Let the loop turn `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition, seconds=5.0):
    """Wait until `condition()` is true, and fail if it does not become so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        await asyncio.sleep(0.001)


async def within(awaitable, seconds=5.0):
    """The awaitable's result, if it comes in time."""
    return await asyncio.wait_for(awaitable, seconds)


async def transport_over(sock, factory=Recorder, **options):
    """`(transport, protocol)` over a connected socket."""
    return await asyncio.get_running_loop().create_connection(factory, sock=sock, **options)


def fill(sock):
    """Write to a socket until the kernel takes no more. Returns how many bytes it took."""
    sock.setblocking(False)
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            taken += sock.send(bytes(65536))
    return taken


def read_exactly(sock, count):
    """Exactly `count` bytes from a blocking socket."""
    parts = bytearray()
    while len(parts) < count:
        part = sock.recv(min(count - len(parts), 1 << 20))
        assert part, f"the stream ended after {len(parts)} of {count} bytes"
        parts += part
    return bytes(parts)


def read_all(sock):
    """Everything until the end of the stream, from a blocking socket."""
    parts = bytearray()
    while part := sock.recv(1 << 20):
        parts += part
    return bytes(parts)


def in_thread(function, *args):
    """The function's result as an awaitable; it runs on a thread, so that it may block while the loop goes on."""
    return asyncio.get_running_loop().run_in_executor(None, function, *args)


def reset(sock):
    """Close a TCP socket so that the other side sees a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()


def open_descriptors():
    return set(os.listdir("/proc/self/fd"))


def run_python(source, loop=None, *, arguments=(), options=(), seconds=20, check=True, **keywords):
    """Run a program in an interpreter of its own. With `loop`, the program finds its factory as `new_event_loop`."""
    source = textwrap.dedent(source)
    if loop is not None:
        source = f"{loop.source}\n{source}"
    done = subprocess.run(
        [sys.executable, *options, "-c", source, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        **keywords,
    )
    if check:
        assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return done
