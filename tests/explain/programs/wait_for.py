import asyncio


async def slow():
    await asyncio.sleep(60)


async def main():
    print(await asyncio.wait_for(asyncio.sleep(1, "in time"), 5))
    try:
        await asyncio.wait_for(slow(), 2)
    except TimeoutError:
        print("too slow")


asyncio.run(main())
