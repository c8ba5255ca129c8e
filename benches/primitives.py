"""Rows of asyncio's other half: queues, locks, gather, timeouts, streams.

On ferrio's loop they are ferrio's own, on every other loop asyncio's: what a program pays as a whole.
"""

import asyncio

from benches.row import CPU, row


def namespace(loop):
    """The module whose `Queue`, `Lock`, `gather`, … belong to this loop."""
    if type(loop).__module__.partition(".")[0] == "ferrio":
        import ferrio

        return ferrio
    return asyncio


def run(loop, main):
    loop.run_until_complete(main)


@row("async with Lock, free", 200_000)
def lock_free(loop, count):
    async def main():
        lock = namespace(loop).Lock()
        for _ in range(count):
            async with lock:
                pass

    run(loop, main())


async def nothing():
    pass


@row("gather of 4", 10_000)
def gather_4(loop, count):
    async def main():
        gather = namespace(loop).gather
        for _ in range(count):
            await gather(nothing(), nothing(), nothing(), nothing())

    run(loop, main())


@row("gather of 1,000, per child", 100_000)
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


@row("sleep(0.000001)", 20_000)
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
