import asyncio


async def waits(event):
    await event.wait()


async def opens(event):
    await asyncio.sleep(1)
    event.set()


async def main():
    event = asyncio.Event()
    waiting = [asyncio.create_task(waits(event)) for _ in range(3)]
    await opens(event)
    await waiting[2]
    forever = asyncio.create_task(asyncio.Event().wait(), name="forever")
    await asyncio.sleep(1)
    forever.cancel()


asyncio.run(main())
