import asyncio


async def visitor(lock, seconds):
    async with lock:
        await asyncio.sleep(seconds)


async def main():
    lock = asyncio.Lock()
    async with asyncio.TaskGroup() as group:
        group.create_task(visitor(lock, 2), name="ann")
        group.create_task(visitor(lock, 1), name="bob")


asyncio.run(main())
