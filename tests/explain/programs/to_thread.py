import asyncio
import time


async def main():
    await asyncio.to_thread(time.sleep, 0.05)
    print("the thread is back")


asyncio.run(main())
