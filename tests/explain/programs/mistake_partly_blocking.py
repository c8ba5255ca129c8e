import asyncio
import time


async def clock():
    for _ in range(3):
        await asyncio.sleep(0.1)


def compute():
    end = time.perf_counter() + 0.4
    while time.perf_counter() < end:
        pass


async def main():
    ticking = asyncio.create_task(clock())
    await asyncio.sleep(0)
    for _ in range(3):
        time.sleep(0.1)
    compute()
    await ticking


asyncio.run(main())
