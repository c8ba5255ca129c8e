import asyncio


async def runner(seconds):
    await asyncio.sleep(seconds)
    return seconds


async def main():
    runners = {asyncio.create_task(runner(seconds)) for seconds in (2, 1)}
    done, pending = await asyncio.wait(runners, return_when=asyncio.FIRST_COMPLETED)
    print("first:", done.pop().result())
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)


asyncio.run(main())
