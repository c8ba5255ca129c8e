import asyncio


async def brew(what, seconds):
    print("start", what)
    await asyncio.sleep(seconds)
    return what


async def main():
    print(await asyncio.gather(brew("tea", 2), brew("coffee", 1), brew("water", 0)))


asyncio.run(main())
