import asyncio
import time


async def polite():
    await asyncio.sleep(0)


async def busy():
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass
    await asyncio.sleep(0)


async def main():
    await asyncio.gather(busy(), polite())


asyncio.run(main())
