import asyncio


async def forever():
    while True:
        await asyncio.sleep(10)


async def main():
    task = asyncio.create_task(forever())
    await asyncio.sleep(1)
    print("main is done", task.done())


asyncio.run(main())
