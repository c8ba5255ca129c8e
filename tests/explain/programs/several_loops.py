import asyncio


async def first():
    await asyncio.sleep(1)


async def second():
    await asyncio.sleep(2)


asyncio.run(first())
asyncio.run(second())
