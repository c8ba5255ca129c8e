import asyncio


async def main():
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        print("main is in a hurry")
        raise


try:
    asyncio.run(asyncio.wait_for(main(), 1))
except TimeoutError:
    print("too late")
