import asyncio


async def boil(kettle, seconds):
    print(kettle, "is on the stove")
    await asyncio.sleep(seconds)
    print(kettle, "boils")
    return kettle


async def main():
    print(await asyncio.gather(boil("big", 2), boil("small", 1)))


asyncio.run(main())
