"""Rows of streams inside one process. (Echoes over streams are in network.py.)"""

import asyncio
import os
import resource
import socket
import subprocess
import sys

from benches import processes
from benches.primitives import namespace, run
from benches.row import CPU, OWN, row

KIB = 1024
MIB = 1024 * KIB

# Sends so many MiB to a port when it gets a byte from there, and ends.
SENDER = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
    block = bytes(1024 * 1024)
    sock.recv(1)
    for _ in range(int(sys.argv[2])):
        sock.sendall(block)
"""


@row("streams: readline from a full buffer", 100_000, quick=True)
def readline(loop, count):
    async def main():
        reader = namespace(loop).StreamReader(limit=MIB)
        block = b"a line of forty-eight bytes, end of line included\n" * 1_000
        for _ in range(count // 1_000):
            reader.feed_data(block)
            for _ in range(1_000):
                await reader.readline()

    run(loop, main())


@row("streams: async for line, waiting for none", 100_000)
def async_for(loop, count):
    async def main():
        reader = namespace(loop).StreamReader(limit=MIB)
        block = b"a line of forty-eight bytes, end of line included\n" * 1_000
        for _ in range(count // 1_000):
            reader.feed_data(block)
        reader.feed_eof()
        async for _ in reader:
            pass

    run(loop, main())


@row("streams: read what is fed while it waits", 50_000)
def read_fed(loop, count):
    async def main():
        reader = namespace(loop).StreamReader()
        block = bytes(KIB)
        for _ in range(count):
            loop.call_soon(reader.feed_data, block)
            await reader.read(64 * KIB)

    run(loop, main())


@row("streams: write and drain, nobody waits", 50_000)
def write_drain(loop, count):
    class Full(asyncio.Transport):
        """Takes everything and does nothing."""

        def write(self, data):
            pass

        def is_closing(self):
            return False

    async def main():
        streams = namespace(loop)
        reader = streams.StreamReader()
        protocol = streams.StreamReaderProtocol(reader)
        writer = streams.StreamWriter(Full(), protocol, reader, loop)
        for _ in range(count):
            writer.write(b"data")
            await writer.drain()
        # It must not be closed by its __del__.
        writer.transport.is_closing = lambda: True

    run(loop, main())


def leave_cpu():
    """This process goes to other CPUs than those of its parent, if there are any."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(range(os.cpu_count())) - mine or mine)


def receive(loop, count, read):
    """Receives so many MiB from another process with `read(reader)`, which returns b"" at the end.

    Returns the microseconds of CPU time per MiB; the clock stands still while the sender starts. How many acknowledgements
    a MiB takes differs from one connection to the next, and decides (docs/benchmarks.md): many MiB make one figure.
    """

    async def main():
        done = loop.create_future()

        async def handle(reader, writer):
            received = 0
            writer.write(b".")
            started = CPU()
            while block := await read(reader):
                received += len(block)
            spent = CPU() - started
            writer.close()
            done.set_result((received, spent))

        server = await namespace(loop).start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        sender = subprocess.Popen([sys.executable, "-c", SENDER, str(port), str(count)], preexec_fn=leave_cpu)
        received, spent = await done
        assert received == count * MIB
        sender.wait()
        server.close()
        await server.wait_closed()
        return spent / count * 1e6

    return run(loop, main())


@row("streams: bulk receive, read(64 KiB), per MiB", 256, OWN, "us CPU")
def bulk_read(loop, count):
    return receive(loop, count, lambda reader: reader.read(64 * KIB))


@row("streams: bulk receive, readexactly(1 MiB), per MiB", 256, OWN, "us CPU")
def bulk_readexactly(loop, count):
    async def read(reader):
        try:
            return await reader.readexactly(MIB)
        except asyncio.IncompleteReadError:
            return b""

    return receive(loop, count, read)


@row("streams: memory of an idle connection", 1, OWN, "bytes")
def idle_memory(loop, count):
    # In a process of its own: memory that was used before would not count.
    package = type(loop).__module__.partition(".")[0]
    command = [sys.executable, "-m", "benches.streams", f"{package}:new_event_loop"]
    return int(subprocess.run(command, cwd=processes.ROOT, check=True, capture_output=True, text=True).stdout)


def resident():
    """Bytes of this process's memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def print_idle_size(loop):
    """Prints the bytes per connection of a server whose handlers all wait for a first byte. The clients' side is plain sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    total = min(2_000, (hard - 100) // 2)
    sock = socket.create_server(("127.0.0.1", 0))
    waiting = 0

    async def handle(reader, writer):
        nonlocal waiting
        waiting += 1
        await reader.read(KIB)
        writer.close()

    async def accept(count):
        clients = [socket.create_connection(sock.getsockname()) for _ in range(count)]
        before = resident()
        goal = waiting + count
        while waiting < goal:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        return clients, resident() - before

    async def main():
        _server = await namespace(loop).start_server(handle, sock=sock, backlog=total)
        warm, _ = await accept(50)
        clients, size = await accept(total - 50)
        # All is left as it is: the process ends.
        print(size // (total - 50), flush=True)
        os._exit(0)

    loop.run_until_complete(main())


if __name__ == "__main__":
    from benches.loops import factory

    print_idle_size(factory(sys.argv[1])())
