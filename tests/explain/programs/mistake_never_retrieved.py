import asyncio


async def fail():
    raise LookupError("nobody hears me")


async def main():
    task = asyncio.create_task(fail())
    await asyncio.sleep(1)
    del task
    print("all seems well")


asyncio.run(main())
