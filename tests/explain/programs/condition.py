import asyncio


async def hungry(kitchen, dishes):
    async with kitchen:
        await kitchen.wait_for(lambda: dishes)
        print("eating", dishes.pop())


async def main():
    kitchen, dishes = asyncio.Condition(), []
    task = asyncio.create_task(hungry(kitchen, dishes))
    await asyncio.sleep(1)
    async with kitchen:
        dishes.append("soup")
        kitchen.notify()
    await task


asyncio.run(main())
