import asyncio


async def worker():
    try:
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        print("cleaning up")
        await asyncio.sleep(1)
        raise


async def main():
    task = asyncio.create_task(worker())
    await asyncio.sleep(2)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print("the worker has ended")


asyncio.run(main())
