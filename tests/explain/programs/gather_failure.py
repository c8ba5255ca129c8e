import asyncio


async def good():
    await asyncio.sleep(3)


async def bad():
    await asyncio.sleep(1)
    raise ValueError("no water")


async def main():
    try:
        await asyncio.gather(good(), bad())
    except ValueError as error:
        print("main caught", error)


asyncio.run(main())
