import asyncio


async def cook(seconds):
    await asyncio.sleep(seconds)


async def main():
    dishes = [asyncio.create_task(cook(3)), asyncio.create_task(cook(4))]
    done, _ = await asyncio.wait(dishes, timeout=1)
    print(len(done), "ready")
    try:
        for dish in asyncio.as_completed(dishes, timeout=2.5):
            await dish
    except TimeoutError:
        print("too late for the second")
    await asyncio.gather(*dishes)


asyncio.run(main())
