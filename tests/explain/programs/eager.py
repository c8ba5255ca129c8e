import asyncio


async def fetch(name, seconds):
    await asyncio.sleep(seconds)
    return name


async def known(name):
    return name


async def both():
    inner = asyncio.create_task(fetch("milk", 1))
    return await inner


async def main():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    tea = asyncio.create_task(fetch("tea", 2))
    water = asyncio.create_task(known("water"))
    milk = asyncio.create_task(both())
    print(await tea, await water, await milk)
    future = asyncio.get_running_loop().create_future()

    async def hear():
        return await future

    heard = asyncio.create_task(hear())
    future.set_result("word")
    print(await heard)


asyncio.run(main())
