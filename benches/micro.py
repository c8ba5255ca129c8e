"""Rows inside one process: what a loop's own operations cost."""

import asyncio
import contextlib
import queue
import socket
import threading

from benches.row import CPU, WALL, row


def run_until_stopped(loop, callback, *args):
    loop.call_soon(callback, *args)
    loop.run_forever()


@row("call_soon, one at a time", 100_000)
def call_soon_chain(loop, count):
    def step():
        nonlocal count
        count -= 1
        if count:
            loop.call_soon(step)
        else:
            loop.stop()

    run_until_stopped(loop, step)


@row("call_soon with 2 arguments, 1,000 a turn", 200_000)
def call_soon_batch(loop, count):
    def work(a, b):
        pass

    def turn(left):
        for _ in range(1_000):
            loop.call_soon(work, 1, 2)
        if left > 1_000:
            loop.call_soon(turn, left - 1_000)
        else:
            loop.call_soon(loop.stop)

    run_until_stopped(loop, turn, count)


@row("sleep(0)", 100_000)
def sleep_zero(loop, count):
    async def main():
        for _ in range(count):
            await asyncio.sleep(0)

    loop.run_until_complete(main())


@row("call_later and cancel", 100_000)
def call_later_cancel(loop, count):
    async def main():
        for i in range(count):
            loop.call_later(60, main).cancel()
            if i % 1_000 == 0:
                await asyncio.sleep(0)

    loop.run_until_complete(main())


@row("create_task and await it", 50_000)
def create_task(loop, count):
    async def child():
        pass

    async def main():
        for _ in range(count):
            await loop.create_task(child())

    loop.run_until_complete(main())


@row("await a future set by call_soon", 50_000)
def future_wake(loop, count):
    async def main():
        for _ in range(count):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future

    loop.run_until_complete(main())


@row("to a thread and back by call_soon_threadsafe", 5_000, WALL, "us")
def threadsafe_roundtrip(loop, count):
    requests = queue.SimpleQueue()

    def answer():
        while future := requests.get():
            loop.call_soon_threadsafe(future.set_result, None)

    async def main():
        for _ in range(count):
            future = loop.create_future()
            requests.put(future)
            await future

    thread = threading.Thread(target=answer)
    thread.start()
    loop.run_until_complete(main())
    requests.put(None)
    thread.join()


@row("run_until_complete", 10_000)
def run_until_complete(loop, count):
    async def nothing():
        pass

    for _ in range(count):
        loop.run_until_complete(nothing())


@contextlib.contextmanager
def socket_pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


@row("sock_sendall and sock_recv, there and back", 10_000, CPU, "us")
def sock_ping_pong(loop, count):
    async def echo(sock):
        while data := await loop.sock_recv(sock, 1024):
            await loop.sock_sendall(sock, data)

    async def main():
        with socket_pair() as (left, right):
            echoing = loop.create_task(echo(right))
            for _ in range(count):
                await loop.sock_sendall(left, b"ping")
                await loop.sock_recv(left, 1024)
            left.shutdown(socket.SHUT_WR)
            await echoing

    loop.run_until_complete(main())


@row("add_reader dispatch", 50_000)
def reader_dispatch(loop, count):
    def readable():
        nonlocal count
        count -= 1
        if not count:
            loop.stop()

    with socket_pair() as (left, right):
        right.send(b"never read, so that every turn finds it")
        loop.add_reader(left, readable)
        loop.run_forever()
        loop.remove_reader(left)


@row("subprocess: spawn and wait", 30, WALL, "us")
def spawn(loop, count):
    async def main():
        for _ in range(count):
            process = await asyncio.create_subprocess_exec("true")
            await process.wait()

    loop.run_until_complete(main())
