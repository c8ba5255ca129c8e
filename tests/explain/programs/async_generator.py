import asyncio


async def ticks(count):
    for number in range(count):
        await asyncio.sleep(1)
        yield number


async def main():
    async for number in ticks(2):
        print("tick", number)


asyncio.run(main())
