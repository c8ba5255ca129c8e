"""Rows of asyncio's other half: queues, locks, gather, timeouts, streams.

On ferrio's loop they are ferrio's own, on every other loop asyncio's: what a program pays as a whole.
"""

import asyncio

from benches.loops import namespace
from benches.row import CPU, row


def run(loop, main):
    return loop.run_until_complete(main)


@row("async with Lock, free", 200_000, quick=True)
def lock_free(loop, count):
    async def main():
        lock = namespace(loop).Lock()
        for _ in range(count):
            async with lock:
                pass

    run(loop, main())


@row("await Lock.acquire(), free", 200_000)
def lock_acquire(loop, count):
    async def main():
        lock = namespace(loop).Lock()
        for _ in range(count):
            await lock.acquire()
            lock.release()

    run(loop, main())


@row("Lock, 100 tasks take turns", 20_000)
def lock_contended(loop, count):
    async def worker(lock):
        for _ in range(count // 100):
            async with lock:
                await asyncio.sleep(0)

    async def main():
        lock = namespace(loop).Lock()
        await asyncio.gather(*(worker(lock) for _ in range(100)))

    run(loop, main())


@row("async with Semaphore, free", 100_000)
def semaphore_free(loop, count):
    async def main():
        semaphore = namespace(loop).Semaphore(2)
        for _ in range(count):
            async with semaphore:
                pass

    run(loop, main())


@row("Semaphore(10), 100 tasks take turns", 20_000)
def semaphore_contended(loop, count):
    async def worker(semaphore):
        for _ in range(count // 100):
            async with semaphore:
                await asyncio.sleep(0)

    async def main():
        semaphore = namespace(loop).Semaphore(10)
        await asyncio.gather(*(worker(semaphore) for _ in range(100)))

    run(loop, main())


@row("Event wakes 100 tasks, per task", 100_000)
def event_wakes(loop, count):
    async def worker(event):
        for _ in range(count // 100):
            await event.wait()

    async def main():
        event = namespace(loop).Event()
        workers = [asyncio.ensure_future(worker(event)) for _ in range(100)]
        for _ in range(count // 100):
            await asyncio.sleep(0)
            event.set()
            event.clear()
        await asyncio.gather(*workers)

    run(loop, main())


@row("Condition wakes 10 tasks, per task", 50_000)
def condition_wakes(loop, count):
    async def worker(condition):
        async with condition:
            for _ in range(count // 10):
                await condition.wait()

    async def main():
        condition = namespace(loop).Condition()
        workers = [asyncio.ensure_future(worker(condition)) for _ in range(10)]
        await asyncio.sleep(0)
        while not workers[-1].done():
            async with condition:
                condition.notify_all()
            await asyncio.sleep(0)
        await asyncio.gather(*workers)

    run(loop, main())


@row("Barrier of 10 tasks, per task", 20_000)
def barrier(loop, count):
    async def worker(barrier):
        for _ in range(count // 10):
            await barrier.wait()

    async def main():
        barrier = namespace(loop).Barrier(10)
        await asyncio.gather(*(worker(barrier) for _ in range(10)))

    run(loop, main())


@row("Queue put_nowait + get_nowait", 200_000)
def queue_nowait(loop, count):
    async def main():
        queue = namespace(loop).Queue()
        put, get = queue.put_nowait, queue.get_nowait
        for number in range(count):
            put(number)
            get()

    run(loop, main())


@row("Queue await put + await get, no wait", 200_000)
def queue_free(loop, count):
    async def main():
        queue = namespace(loop).Queue()
        for number in range(count):
            await queue.put(number)
            await queue.get()

    run(loop, main())


@row("PriorityQueue put_nowait + get_nowait", 100_000)
def priority_queue_nowait(loop, count):
    async def main():
        queue = namespace(loop).PriorityQueue()
        for number in range(count):
            queue.put_nowait(number)
            queue.get_nowait()

    run(loop, main())


@row("Queue ping-pong, every get waits", 50_000, quick=True)
def queue_ping_pong(loop, count):
    async def echo(source, target):
        for _ in range(count // 2):
            await target.put(await source.get())

    async def main():
        Queue = namespace(loop).Queue
        there, back = Queue(), Queue()
        there.put_nowait(None)
        await asyncio.gather(echo(there, back), echo(back, there))

    run(loop, main())


@row("Queue(10), 10 producers, 10 consumers", 50_000)
def queue_crowd(loop, count):
    async def produce(queue):
        for number in range(count // 10):
            await queue.put(number)

    async def consume(queue):
        for _ in range(count // 10):
            await queue.get()
            queue.task_done()

    async def main():
        queue = namespace(loop).Queue(10)
        await asyncio.gather(*(task(queue) for task in (produce, consume) for _ in range(10)))
        await queue.join()

    run(loop, main())


async def nothing():
    pass


@row("gather of 4", 10_000, quick=True)
def gather_4(loop, count):
    async def main():
        gather = namespace(loop).gather
        for _ in range(count):
            await gather(nothing(), nothing(), nothing(), nothing())

    run(loop, main())


@row("gather of 1,000, per child", 50_000)
def gather_1000(loop, count):
    async def main():
        gather = namespace(loop).gather
        for _ in range(count // 1_000):
            await gather(*[nothing() for _ in range(1_000)])

    run(loop, main())


@row("TaskGroup of 4", 10_000)
def task_group_4(loop, count):
    async def main():
        TaskGroup = namespace(loop).TaskGroup
        for _ in range(count):
            async with TaskGroup() as group:
                for _ in range(4):
                    group.create_task(nothing())

    run(loop, main())


@row("timeout() that does not block", 50_000)
def timeout(loop, count):
    async def main():
        timeout = namespace(loop).timeout
        for _ in range(count):
            async with timeout(60):
                pass

    run(loop, main())


@row("wait_for() that does not block", 50_000)
def wait_for(loop, count):
    async def main():
        wait_for = namespace(loop).wait_for
        for _ in range(count):
            await wait_for(nothing(), 60)

    run(loop, main())


@row("create_task() and await it", 50_000)
def create_task(loop, count):
    async def main():
        create_task = namespace(loop).create_task
        for _ in range(count):
            await create_task(nothing())

    run(loop, main())


@row("sleep(0), own", 100_000)
def sleep_zero(loop, count):
    async def main():
        sleep = namespace(loop).sleep
        for _ in range(count):
            await sleep(0)

    run(loop, main())


@row("sleep(0.000001)", 500)
def sleep_short(loop, count):
    async def main():
        sleep = namespace(loop).sleep
        for _ in range(count):
            await sleep(0.000001)

    run(loop, main())


@row("wait() for 10 tasks", 5_000)
def wait(loop, count):
    async def main():
        wait = namespace(loop).wait
        for _ in range(count):
            await wait([loop.create_task(nothing()) for _ in range(10)])

    run(loop, main())


@row("as_completed() of 10", 5_000)
def as_completed(loop, count):
    async def main():
        as_completed = namespace(loop).as_completed
        for _ in range(count):
            for one in as_completed([nothing() for _ in range(10)]):
                await one

    run(loop, main())


@row("wait() for 1,000 tasks, per task", 20_000)
def wait_1000(loop, count):
    async def main():
        wait = namespace(loop).wait
        for _ in range(count // 1_000):
            await wait([loop.create_task(nothing()) for _ in range(1_000)])

    run(loop, main())


@row("as_completed() of 100, per task", 20_000)
def as_completed_100(loop, count):
    async def main():
        as_completed = namespace(loop).as_completed
        for _ in range(count // 100):
            for one in as_completed([nothing() for _ in range(100)]):
                await one

    run(loop, main())


@row("shield() of a task", 10_000)
def shield(loop, count):
    async def main():
        shield = namespace(loop).shield
        for _ in range(count):
            await shield(nothing())

    run(loop, main())


@row("to_thread()", 3_000, CPU, "us")
def to_thread(loop, count):
    async def main():
        to_thread = namespace(loop).to_thread
        for _ in range(count // 10):
            await asyncio.gather(*[to_thread(int) for _ in range(10)])

    run(loop, main())
