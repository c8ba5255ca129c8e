"""Ways of a parent to wait for children: coroutine functions of a namespace, asyncio's or ferrio's, and what makes a child."""

import asyncio
import inspect

import pytest


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


def skip_if_early(namespace, condition):
    """Under this condition early versions of 3.14's asyncio do not say that somebody waits, or say so for too long."""
    if namespace is asyncio and condition and "awaited_by" not in inspect.getsource(asyncio.tasks._AsCompletedIterator):
        pytest.skip("early versions of 3.14 do not tell, or for too long")
