import asyncio


async def precious():
    await asyncio.sleep(3)
    print("saved")


async def main():
    task = asyncio.create_task(precious())
    try:
        async with asyncio.timeout(1):
            await asyncio.shield(task)
    except TimeoutError:
        print("the wait is over, the task is not")
    await task


asyncio.run(main())
