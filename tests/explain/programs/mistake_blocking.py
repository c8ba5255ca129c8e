import asyncio
import time


async def polite():
    await asyncio.sleep(0)


async def rude():
    time.sleep(0.2)


async def main():
    await asyncio.gather(rude(), polite())


asyncio.run(main())
