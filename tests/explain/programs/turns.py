import asyncio


async def count(name):
    for number in range(3):
        print(name, number)
        await asyncio.sleep(0)


async def main():
    await asyncio.gather(count("a"), count("b"))


asyncio.run(main())
