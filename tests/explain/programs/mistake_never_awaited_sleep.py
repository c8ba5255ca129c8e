import asyncio


class Clock:
    async def tick(self):
        asyncio.sleep(1)  # forgotten
        print("tick")


async def main():
    clock = Clock()
    clock.tick()
    await clock.tick()


asyncio.run(main())
