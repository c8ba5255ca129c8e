"""Programs in which something goes wrong, each in its own way, and healthy ones: ``python incidents.py NAME``.

Each says "ready" when it has come so far. They run until somebody ends them.
"""

import asyncio
import ctypes
import os
import signal
import socket
import sys
import threading
import time

import ferrio


def ready():
    print("ready", flush=True)


async def company():
    """What an ordinary program does besides."""
    while True:
        await asyncio.sleep(0.05)


# --- incidents -------------------------------------------------------------------------------------------------------


async def blocking_call():
    asyncio.get_running_loop().call_later(0.2, ready)
    await asyncio.sleep(0.3)
    time.sleep(300)


async def cpu_loop():
    asyncio.get_running_loop().call_later(0.2, ready)
    await asyncio.sleep(0.3)
    count_for_ever()


def count_for_ever():
    number = 0
    while True:
        number += 1


async def gil():
    def keep():
        time.sleep(1.5)
        ready()
        keep_the_lock()

    threading.Thread(target=keep, name="keeper", daemon=True).start()
    await company()


def keep_the_lock():
    ctypes.PyDLL(None).usleep(ctypes.c_uint(300_000_000))


async def lock():
    the_lock = ferrio.Lock()

    async def takes():
        await the_lock.acquire()

    async def wants():
        async with the_lock:
            pass

    await asyncio.create_task(takes(), name="taker")
    tasks = [asyncio.create_task(wants()) for _ in range(3)]
    await asyncio.sleep(0.2)
    ready()
    await asyncio.wait(tasks)


async def deadlock():
    one, other = ferrio.Lock(), ferrio.Lock()

    async def moves(first, second):
        async with first:
            await asyncio.sleep(0.05)
            async with second:
                pass

    async def twice(lock):
        async with lock:
            await lock.acquire()

    async def innocent():
        # It waits for one of them, but nobody for it.
        async with one:
            pass

    tasks = [asyncio.create_task(moves(one, other)), asyncio.create_task(moves(other, one))]
    tasks += [asyncio.create_task(twice(ferrio.Lock())), asyncio.create_task(innocent())]
    await asyncio.sleep(0.2)
    ready()
    await asyncio.wait(tasks)


async def lost_future():
    async def waits():
        await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(waits())
    await asyncio.sleep(0.2)
    ready()
    await task


async def stuck_peer():
    server = socket.create_server(("127.0.0.1", 0))

    async def asks():
        reader, writer = await asyncio.open_connection(*server.getsockname())
        writer.write(b"hello\n")
        await reader.readline()

    task = asyncio.create_task(asks())
    await asyncio.sleep(0.2)
    ready()
    await task


async def executor_full():
    tasks = [asyncio.create_task(asyncio.to_thread(time.sleep, 300)) for _ in range(60)]
    await asyncio.sleep(0.2)
    ready()
    await asyncio.wait(tasks)


async def timer_storm():
    loop = asyncio.get_running_loop()

    def again():
        loop.call_later(0.001, again)

    for _ in range(30):
        again()
    ready()
    await company()


async def task_leak():
    never = asyncio.Event()
    tasks = []

    async def leaks():
        await never.wait()

    ready()
    while True:
        tasks += [asyncio.create_task(leaks()) for _ in range(20)]
        await asyncio.sleep(0.02)


async def slow_consumer():
    queue = asyncio.Queue()

    async def consumes():
        while True:
            await queue.get()
            await asyncio.sleep(0.1)

    task = asyncio.create_task(consumes())  # noqa: F841
    ready()
    while True:
        for number in range(10):
            queue.put_nowait(number)
        await asyncio.sleep(0.01)


async def stalled_consumer(make=ferrio.Queue):
    queue = make(3)

    async def produces():
        while True:
            await queue.put(1)

    async def consumes():
        await queue.get()

    await puts_with(produces, consumes)


async def stalled_consumer_of_asyncios():
    await stalled_consumer(asyncio.Queue)


async def busy_consumer():
    """The consumer takes one after the other, but for so many producers that each of them waits for long."""
    queue = ferrio.Queue(3)

    async def produces():
        while True:
            await queue.put(1)

    async def consumes():
        while True:
            await queue.get()
            await asyncio.sleep(0.1)

    await puts_with(produces, consumes, 60)


async def puts_with(produces, consumes, count=5):
    tasks = [asyncio.create_task(produces()) for _ in range(count)]
    consumer = asyncio.create_task(consumes())
    await asyncio.sleep(0.2)
    ready()
    await asyncio.wait([*tasks, consumer])


async def standstill():
    """Connections that are not given back: nobody has a lock, but nothing is left that could notify anybody."""
    condition, free = asyncio.Condition(), [1, 2]

    async def uses():
        async with condition:
            await condition.wait_for(lambda: free)
            free.pop()

    await asyncio.to_thread(ready)
    await asyncio.gather(*(uses() for _ in range(5)))


async def exhausted_pool():
    """All connections are with tasks that wait for a peer; one of them for a lock whose holder does so."""
    pool, the_lock = asyncio.Semaphore(1), asyncio.Lock()
    server = socket.create_server(("127.0.0.1", 0))

    async def asks():
        reader, writer = await asyncio.open_connection(*server.getsockname())
        async with the_lock:
            await reader.readline()

    async def uses():
        async with pool:
            async with the_lock:
                pass

    tasks = [asyncio.create_task(asks())]
    await asyncio.sleep(0.1)
    tasks += [asyncio.create_task(uses()) for _ in range(8)]
    await asyncio.sleep(0.2)
    ready()
    await asyncio.wait(tasks)


async def dns_stall():
    def never(*arguments, **options):
        time.sleep(300)

    socket.getaddrinfo = never

    async def connects():
        await asyncio.open_connection("example.invalid", 80)

    task = asyncio.create_task(connects())
    await asyncio.sleep(0.2)
    ready()
    await task


async def signal_storm():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)

    def storm():
        while True:
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.0005)

    threading.Thread(target=storm, daemon=True).start()
    ready()
    await company()


# --- no incidents ----------------------------------------------------------------------------------------------------


async def healthy():
    """An echo server under traffic, periodic tasks, a lock, a queue, threads."""
    the_lock, queue = asyncio.Lock(), asyncio.Queue(10)

    async def echo(reader, writer):
        while data := await reader.readline():
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    async def talks():
        reader, writer = await asyncio.open_connection(*address)
        while True:
            writer.write(b"hello\n")
            await reader.readline()
            await asyncio.sleep(0.002)

    async def idles():
        reader, _ = await asyncio.open_connection(*address)
        await reader.readline()

    async def produces():
        while True:
            await queue.put(1)
            await asyncio.sleep(0.01)

    async def consumes():
        while True:
            await queue.get()

    async def locks():
        while True:
            async with the_lock:
                await asyncio.sleep(0.005)

    async def threads():
        while True:
            await asyncio.to_thread(time.sleep, 0.01)

    everything = [talks() for _ in range(10)]
    everything += [idles(), produces(), consumes(), locks(), locks(), threads(), company(), server.serve_forever()]
    tasks = [asyncio.create_task(each) for each in everything]
    await asyncio.sleep(0.5)
    ready()
    await asyncio.wait(tasks)


async def waiting():
    """Tasks that wait for a peer, a lock, a queue and a timer, and stay so: whoever looks finds them at it."""
    the_lock, queue = asyncio.Lock(), asyncio.Queue()
    here, _there = socket.socketpair()

    async def listens():
        reader, _ = await asyncio.open_connection(sock=here)
        await reader.readline()

    async def gets():
        await queue.get()

    async def keeps():
        async with the_lock:
            await asyncio.sleep(300)

    async def enters():
        async with the_lock:
            pass

    tasks = [asyncio.create_task(each) for each in (listens(), gets(), keeps(), enters())]
    await asyncio.sleep(0.2)
    ready()
    await asyncio.wait(tasks)


async def idle():
    """A server at night: very many tasks wait at the same lines, and for what need not come."""
    queue, event, condition, pool = asyncio.Queue(), asyncio.Event(), asyncio.Condition(), set()

    async def reads(reader, writer):
        await reader.readline()

    async def takes():
        await queue.get()

    async def until_set():
        await event.wait()

    async def until_notified():
        async with condition:
            await condition.wait()

    async def subscribes():
        # As the pools of some libraries wait for a connection, and their subscribers for news.
        future = asyncio.get_running_loop().create_future()
        pool.add(future)
        await future

    server = await asyncio.start_server(reads, "127.0.0.1", 0)
    peers = [await asyncio.open_connection(*server.sockets[0].getsockname()) for _ in range(300)]
    everything = [each() for each in (takes, until_set, until_notified, subscribes) for _ in range(50)]
    everything += [asyncio.sleep(300) for _ in range(50)] + [company(), server.serve_forever()]
    tasks = [asyncio.create_task(each) for each in everything]
    await asyncio.sleep(0.5)
    ready()
    await asyncio.wait(tasks)
    return peers


async def asleep():
    ready()
    await asyncio.sleep(300)


async def stopped_at_once():
    ready()
    os.kill(os.getpid(), signal.SIGSTOP)
    await asyncio.sleep(300)


async def for_ever():
    ready()
    await asyncio.Event().wait()


async def until_told():
    """Everybody waits for somebody else of the loop, but the main task for a signal."""
    stop, queues = asyncio.Event(), [asyncio.Queue() for _ in range(5)]
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    tasks = [asyncio.create_task(queue.get()) for queue in queues]
    await asyncio.sleep(0.2)
    ready()
    await stop.wait()
    return tasks


async def many():
    async def sleeps():
        await asyncio.sleep(300)

    tasks = [asyncio.create_task(sleeps()) for _ in range(100_000)]
    await asyncio.sleep(0)
    ready()
    await asyncio.wait(tasks)


def forked():
    """A process that has had a loop has a child with another."""
    ferrio.run(asyncio.sleep(0))
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    else:
        ferrio.run(in_the_child())


async def in_the_child():
    print(f"ready\n{os.getpid()}", flush=True)
    await asyncio.sleep(300)


if __name__ == "__main__":
    if sys.argv[1] == "forked":
        forked()
    ferrio.run(globals()[sys.argv[1]]())
