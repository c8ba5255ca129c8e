import asyncio


async def brew(what, seconds):
    await asyncio.sleep(seconds)
    return what


async def main():
    tea = asyncio.create_task(brew("tea", 2))
    coffee = asyncio.create_task(brew("coffee", 1), name="coffee")
    print(await tea, await coffee)


asyncio.run(main())
