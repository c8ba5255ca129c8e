import asyncio


async def ticks():
    try:
        for tick in range(5):
            yield tick
            await asyncio.sleep(1)
    finally:
        print("no more ticks")


async def main():
    async for tick in ticks():
        if tick == 1:
            break
    await asyncio.sleep(1)


asyncio.run(main())
