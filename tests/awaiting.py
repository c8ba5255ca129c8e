"""Ways of a parent to wait for children: coroutine functions of a namespace, asyncio's or ferrio's, and what makes a child."""

import asyncio


async def gather(namespace, child):
    await namespace.gather(child(), child())


async def group(namespace, child):
    async with namespace.TaskGroup() as group:
        group.create_task(child())


async def wait(namespace, child):
    await namespace.wait([asyncio.create_task(child())])


async def wait_first(namespace, child):
    await namespace.wait([asyncio.create_task(child()), asyncio.create_task(child())], return_when="FIRST_COMPLETED")


async def shield(namespace, child):
    await namespace.shield(child())


async def wait_for(namespace, child):
    await namespace.wait_for(asyncio.create_task(child()), 60)


async def timeout(namespace, child):
    async with namespace.timeout(60):
        await asyncio.create_task(child())


async def as_completed(namespace, child):
    for one in namespace.as_completed([child(), child()]):
        await one
