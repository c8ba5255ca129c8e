import asyncio


async def waiter(event):
    await event.wait()
    print("the event is set")


async def main():
    event = asyncio.Event()
    task = asyncio.create_task(waiter(event))
    await asyncio.sleep(1)
    event.set()
    await task


asyncio.run(main())
