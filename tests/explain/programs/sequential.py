import asyncio


async def brew(what, seconds):
    await asyncio.sleep(seconds)
    return what


async def main():
    print(await brew("tea", 2))
    print(await brew("coffee", 1))


asyncio.run(main())
