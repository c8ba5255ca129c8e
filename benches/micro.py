"""Rows inside one process: what a loop's own operations cost.

A row is a function of the loop and a count; `@row` says how many operations it does and which clock counts. A worker
process per row and loop (`python -m benches.micro ROW FACTORY`) lives through all rounds, so that these can be
interleaved without paying for start-up.
"""

import asyncio
import contextlib
import faulthandler
import json
import queue
import socket
import subprocess
import sys
import threading
import time

from benches import processes
from benches.loops import factory

ROWS = {}
CPU, WALL = time.process_time, time.perf_counter


def row(name, count, clock=CPU, unit="ns"):
    def register(function):
        ROWS[name] = {"function": function, "count": count, "clock": clock, "unit": unit}
        return function

    return register


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


class Worker:
    """A process with one loop that measures a row as often as it is asked."""

    def __init__(self, name, spec):
        command = [sys.executable, "-m", "benches.micro", name, spec]
        self._process = subprocess.Popen(
            command, cwd=processes.ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            preexec_fn=processes.pin(processes.SERVER_CPU),
        )  # fmt: skip

    def measure(self):
        with contextlib.suppress(BrokenPipeError):
            print(file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise processes.Failure(f"the process ended with status {self._process.wait()}")
        return json.loads(answer)

    def close(self):
        self._process.kill()
        self._process.communicate()


def start(name, spec):
    """What is to be measured, as a context manager: a warm worker."""
    worker = Worker(name, spec)
    with contextlib.suppress(processes.Failure):  # which the first round will report
        worker.measure()
    return contextlib.closing(worker)


def measure(name, worker, effort):
    """One round: the cost of an operation."""
    return {"cost": worker.measure()}


def unit(name):
    return f"{ROWS[name]['unit']} {'CPU' if ROWS[name]['clock'] is CPU else 'elapsed'}"


def main():
    name, spec = sys.argv[1:]
    entry = ROWS[name]
    loop = factory(spec)()
    asyncio.set_event_loop(loop)
    for _ in sys.stdin:
        # A loop that hangs fails.
        faulthandler.dump_traceback_later(60, exit=True)
        started = entry["clock"]()
        entry["function"](loop, entry["count"])
        taken = entry["clock"]() - started
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(taken / entry["count"] * {"ns": 1e9, "us": 1e6}[entry["unit"]]), flush=True)
    loop.close()


if __name__ == "__main__":
    main()
