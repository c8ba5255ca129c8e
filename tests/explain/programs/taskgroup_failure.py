import asyncio


async def steady():
    await asyncio.sleep(10)


async def fragile():
    await asyncio.sleep(1)
    raise RuntimeError("broken")


async def main():
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(steady())
            group.create_task(fragile())
    except* RuntimeError as errors:
        print("the group raised", errors.exceptions)


asyncio.run(main())
