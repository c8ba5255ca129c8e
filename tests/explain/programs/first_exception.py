import asyncio


async def runner(seconds):
    await asyncio.sleep(seconds)
    if seconds == 2:
        raise ValueError("stumbled")


async def main():
    race = [asyncio.create_task(runner(seconds)) for seconds in (1, 2, 3)]
    done, pending = await asyncio.wait(race, return_when=asyncio.FIRST_EXCEPTION)
    print(len(done), len(pending), race[1].exception())
    await race[2]


asyncio.run(main())
