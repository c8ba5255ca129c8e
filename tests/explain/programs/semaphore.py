import asyncio


async def guest(table):
    async with table:
        await asyncio.sleep(1)


async def main():
    table = asyncio.Semaphore(2)
    await asyncio.gather(*[guest(table) for _ in range(3)])


asyncio.run(main())
