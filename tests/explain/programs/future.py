import asyncio


async def answer(future):
    await asyncio.sleep(1)
    future.set_result(42)


async def main():
    future = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(answer(future))
    print(await future)
    await task


asyncio.run(main())
