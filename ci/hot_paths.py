"""What ci/instructions.sh counts the instructions of: `python ci/hot_paths.py MODULE:FACTORY [LEVEL...]` under callgrind,
with the loop recording at that level; with several, at one after the other.

Every path is walked once to warm up and a second time to be counted. Calls of ctermid(3), which nothing else makes,
tell callgrind where the counted part begins and ends; what is printed says which part is which, and how many steps,
turns and sleeps of the loop and records of its flight there are in it, if the loop counts them.
"""

import asyncio
import gc
import importlib
import os
import socket
import sys

PATHS = {}


def path(count):
    """The function walks its path `count` times on the loop and with the module that it is given."""

    def register(function):
        PATHS[function.__name__] = function, count
        return function

    return register


@path(2_000)
def call_soon(loop, aio, count):
    def step():
        nonlocal count
        count -= 1
        if count:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()


@path(2_000)
def call_soon_with_arguments(loop, aio, count):
    def work(a, b):
        pass

    for _ in range(count):
        loop.call_soon(work, 1, 2)
    loop.call_soon(loop.stop)
    loop.run_forever()


@path(2_000)
def call_soon_threadsafe(loop, aio, count):
    def work():
        pass

    for _ in range(count):
        loop.call_soon_threadsafe(work)
    loop.call_soon(loop.stop)
    loop.run_forever()


@path(2_000)
def call_later_and_cancel(loop, aio, count):
    for _ in range(count):
        loop.call_later(60, loop.stop).cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()


@path(1_000)
def add_and_remove_reader(loop, aio, count):
    left, right = socket.socketpair()
    with left, right:
        for _ in range(count):
            loop.add_reader(left, loop.stop)
            loop.remove_reader(left)


@path(1_000)
def reader(loop, aio, count):
    def readable():
        nonlocal count
        count -= 1
        if not count:
            loop.stop()

    left, right = socket.socketpair()
    with left, right:
        right.send(b"never read, so that every turn finds it")
        loop.add_reader(left, readable)
        loop.run_forever()
        loop.remove_reader(left)


@path(300)
def run_until_complete(loop, aio, count):
    async def nothing():
        pass

    for _ in range(count):
        loop.run_until_complete(nothing())


def coroutine_path(count):
    """The same for a coroutine function."""

    def register(function):
        def run(loop, aio, count):
            loop.run_until_complete(function(loop, aio, count))

        run.__name__ = function.__name__
        path(count)(run)
        return function

    return register


@coroutine_path(2_000)
async def sleep_zero(loop, aio, count):
    for _ in range(count):
        await aio.sleep(0)


@coroutine_path(2_000)
async def task(loop, aio, count):
    async def child():
        pass

    for _ in range(count):
        await loop.create_task(child())


@coroutine_path(2_000)
async def future(loop, aio, count):
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


@coroutine_path(200)
async def gather(loop, aio, count):
    async def child():
        pass

    for _ in range(count):
        await aio.gather(child(), child(), child(), child())


@coroutine_path(1_000)
async def timeout(loop, aio, count):
    for _ in range(count):
        async with aio.timeout(60):
            pass


@coroutine_path(2_000)
async def lock(loop, aio, count):
    lock = aio.Lock()
    for _ in range(count):
        async with lock:
            pass


@coroutine_path(2_000)
async def queue(loop, aio, count):
    queue = aio.Queue()
    for i in range(count):
        await queue.put(i)
        await queue.get()


@coroutine_path(500)
async def queue_handover(loop, aio, count):
    there, back = aio.Queue(), aio.Queue()

    async def answer():
        for _ in range(count):
            await back.put(await there.get())

    answering = loop.create_task(answer())
    for i in range(count):
        await there.put(i)
        await back.get()
    await answering


@coroutine_path(500)
async def sock_echo(loop, aio, count):
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)

    async def answer():
        for _ in range(count):
            await loop.sock_sendall(right, await loop.sock_recv(right, 1024))

    answering = loop.create_task(answer())
    for _ in range(count):
        await loop.sock_sendall(left, b"x" * 1024)
        await loop.sock_recv(left, 1024)
    await answering
    left.close()
    right.close()


@coroutine_path(500)
async def tcp_echo(loop, aio, count):
    done = loop.create_future()

    class Server(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    class Client(Server):
        left = count

        def data_received(self, data):
            self.left -= 1
            if self.left:
                self.transport.write(data)
            else:
                self.transport.close()

        def connection_lost(self, error):
            done.set_result(error)

    server = await loop.create_server(Server, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    transport, _ = await loop.create_connection(Client, host, port)
    transport.write(b"x" * 1024)
    await done
    server.close()


@coroutine_path(300)
async def stream_echo(loop, aio, count):
    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    server = await aio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    reader, writer = await aio.open_connection(host, port)
    for _ in range(count):
        writer.write(b"x" * 63 + b"\n")
        await writer.drain()
        await reader.readline()
    writer.close()
    await writer.wait_closed()
    server.close()


def counted(loop):
    """How many steps, turns and sleeps the loop has done, and how many records there are of them."""
    counters = loop._counters() if hasattr(loop, "_counters") else {}
    records = getattr(sys.modules.get("ferrio._ferrio"), "records", int)()
    return [*(counters.get(name, 0) for name in ("steps", "turns", "sleeps")), records]


def main():
    module, _, attribute = sys.argv[1].partition(":")
    module = importlib.import_module(module)
    for level in sys.argv[2:] or [None]:
        if level:
            importlib.import_module("ferrio.observe").level(level)
        for name, (walk, count) in PATHS.items():
            measure(name, walk, count, getattr(module, attribute)(), module)


def measure(name, walk, count, loop, module):
    asyncio.set_event_loop(loop)
    walk(loop, module, count)
    # When garbage is collected depends on everything before: it is nobody's instructions.
    gc.collect()
    gc.disable()
    before = counted(loop)
    os.ctermid()
    walk(loop, module, count)
    os.ctermid()
    gc.enable()
    after = counted(loop)
    loop.close()
    print(name, count, *(now - then for now, then in zip(after, before)), flush=True)


if __name__ == "__main__":
    main()
