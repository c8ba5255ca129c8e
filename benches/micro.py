"""Rows inside one process: what a loop's own operations cost."""

import asyncio
import contextlib
import queue
import socket
import threading

from benches.row import CPU, FAMILY, WALL, row


def run_until_stopped(loop, callback, *args):
    loop.call_soon(callback, *args)
    loop.run_forever()


@row("call_soon, one at a time", 100_000, quick=True)
def call_soon_chain(loop, count):
    def step():
        nonlocal count
        count -= 1
        if count:
            loop.call_soon(step)
        else:
            loop.stop()

    run_until_stopped(loop, step)


@row("call_soon with 2 arguments, 1,000 a turn", 200_000, quick=True)
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


@row("call_soon_threadsafe, 1,000 a turn", 100_000)
def threadsafe_own(loop, count):
    def work():
        pass

    def turn(left):
        for _ in range(1_000):
            loop.call_soon_threadsafe(work)
        if left > 1_000:
            loop.call_soon(turn, left - 1_000)
        else:
            loop.call_soon(loop.stop)

    run_until_stopped(loop, turn, count)


@row("call_soon_threadsafe from a thread, 1,000 a wait", 50_000, quick=True)
def threadsafe_flood(loop, count):
    def work():
        pass

    async def main():
        for _ in range(count // 1_000):
            turn = loop.create_future()

            def calls(turn=turn):
                for _ in range(999):
                    loop.call_soon_threadsafe(work)
                loop.call_soon_threadsafe(turn.set_result, None)

            thread = threading.Thread(target=calls)
            thread.start()
            await turn
            thread.join()

    loop.run_until_complete(main())


@row("sleep(0)", 100_000, quick=True)
def sleep_zero(loop, count):
    async def main():
        for _ in range(count):
            await asyncio.sleep(0)

    loop.run_until_complete(main())


@row("call_later and cancel", 100_000, quick=True)
def call_later_cancel(loop, count):
    async def main():
        for i in range(count):
            loop.call_later(60, main).cancel()
            if i % 1_000 == 0:
                await asyncio.sleep(0)

    loop.run_until_complete(main())


@row("call_later that comes due", 50_000)
def call_later_due(loop, count):
    def work():
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    left = count
    for i in range(count):
        loop.call_later(i * 1e-9, work)
    loop.run_forever()


@row("100,000 tasks in sleep()", 100_000, rounds=2)
def sleeping_tasks(loop, count):
    async def nap(seconds):
        await asyncio.sleep(seconds)

    async def main():
        for task in [loop.create_task(nap(0.01 + i * 1e-8)) for i in range(count)]:
            await task

    loop.run_until_complete(main())


@row("create_task and await it", 50_000, quick=True)
def create_task(loop, count):
    async def child():
        pass

    async def main():
        for _ in range(count):
            await loop.create_task(child())

    loop.run_until_complete(main())


@row("await a future set by call_soon", 50_000, quick=True)
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


@row("run_in_executor, 100 at once", 3_000, CPU, "us", quick=True)
def executor(loop, count):
    def work():
        pass

    async def main():
        for _ in range(count // 100):
            for future in [loop.run_in_executor(None, work) for _ in range(100)]:
                await future

    loop.run_until_complete(main())


@row("getaddrinfo of a numeric host", 2_000, WALL, "us")
def getaddrinfo(loop, count):
    async def main():
        for _ in range(count):
            await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)

    loop.run_until_complete(main())


@row("asyncio.run of nothing", 300, CPU, "us", quick=True, of="factory")
def run_nothing(factory, count):
    async def nothing():
        pass

    for _ in range(count):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(nothing())


@row("new_event_loop and close", 500, CPU, "us", of="factory")
def new_and_close(factory, count):
    for _ in range(count):
        factory().close()


@row("run_until_complete", 5_000, quick=True)
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


@row("sock_sendall and sock_recv, there and back", 5_000, CPU, "us")
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


@row("add_reader dispatch", 50_000, quick=True)
def reader_dispatch(loop, count):
    def readable():
        nonlocal count
        count -= 1
        if not count:
            loop.stop()

    with socket_pair() as (left, right):
        right.send(b"never read, so that every turn finds it")
        loop.add_reader(left.fileno(), readable)
        loop.run_forever()
        loop.remove_reader(left.fileno())


@row("add_reader and remove_reader", 20_000)
def reader_churn(loop, count):
    def readable():
        pass

    async def main():
        with socket_pair() as (left, _):
            descriptor = left.fileno()
            for i in range(count):
                loop.add_reader(descriptor, readable)
                loop.remove_reader(descriptor)
                if i % 1_000 == 0:
                    await asyncio.sleep(0)

    loop.run_until_complete(main())


@row("create_connection and close", 300, WALL, "us")
def connect_close(loop, count):
    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for _ in range(count):
            transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
            transport.close()
            await asyncio.sleep(0)
        server.close()

    loop.run_until_complete(main())


@row("subprocess: spawn and wait", 40, FAMILY, "us", quick=True)
def spawn(loop, count):
    async def main():
        for _ in range(count):
            process = await asyncio.create_subprocess_exec("true")
            await process.wait()

    loop.run_until_complete(main())


@row("subprocess: 16 at once", 32, FAMILY, "us")
def spawn_16(loop, count):
    async def one():
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()

    async def main():
        for _ in range(count // 16):
            await asyncio.gather(*(one() for _ in range(16)))

    loop.run_until_complete(main())
