import asyncio


async def job(seconds):
    await asyncio.sleep(seconds)


async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(job(1))
        group.create_task(job(2))
    print("all done")


asyncio.run(main())
