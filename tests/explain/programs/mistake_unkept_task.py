import asyncio


async def background():
    await asyncio.sleep(1)


async def main():
    asyncio.create_task(background())
    await asyncio.sleep(2)


asyncio.run(main())
