import asyncio


async def job():
    await asyncio.sleep(1)


async def main():
    early = asyncio.create_task(job())
    early.cancel()
    await asyncio.wait([early])
    asyncio.current_task().cancel()
    try:
        await asyncio.sleep(1)
    except asyncio.CancelledError:
        print("main has changed its mind")


asyncio.run(main())
