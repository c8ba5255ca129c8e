"""Who waits for a task: on every version, with asyncio's functions and ferrio's, on both loops."""

import asyncio
import sys

import ferrio
import pytest
from ferrio import observe

from tests.awaiting import as_completed, gather, group, shield, skip_if_early, timeout, wait, wait_first, wait_for

LOOPS = {"stock loop": asyncio.SelectorEventLoop, "ferrio's loop": ferrio.new_event_loop}


@pytest.fixture(params=[asyncio, ferrio], ids=["asyncio", "ferrio"])
def namespace(request):
    return request.param


@pytest.fixture(params=LOOPS.values(), ids=LOOPS.keys())
def run(request):
    def run(coroutine):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(coroutine, 30))

    return run


async def directly(namespace, child):
    await asyncio.create_task(child())


async def gather_in_gather(namespace, child):
    await namespace.gather(namespace.shield(namespace.gather(child())))


WAYS = [
    directly, gather, group, wait, wait_first, shield, wait_for, timeout, as_completed, gather_in_gather,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_child_is_awaited_by_its_parent_until_it_is_done(namespace, run, way):
    skip_if_early(namespace, sys.version_info >= (3, 14) and way is as_completed)
    seen = []

    async def child():
        await asyncio.sleep(0)  # The parent waits by now.
        await asyncio.sleep(0)
        seen.append((asyncio.current_task(), observe.awaited_by(asyncio.current_task())))

    async def main():
        parent = asyncio.create_task(way(namespace, child), name="parent")
        await parent
        await asyncio.sleep(0.01)
        assert seen and {waiters for _, waiters in seen} <= {(parent,), ()}
        assert seen[0][1] == (parent,)
        assert [observe.awaited_by(task) for task, _ in seen] == [()] * len(seen)

    run(main())


def test_several_may_wait_for_one(run):
    async def main():
        one = asyncio.create_task(asyncio.sleep(60))

        async def waits():
            await one

        waiting = [asyncio.create_task(waits()) for _ in range(3)]
        await asyncio.sleep(0)
        assert set(observe.awaited_by(one)) == set(waiting)
        one.cancel()
        await asyncio.wait(waiting)

    run(main())


def test_a_chain_goes_outwards(run):
    async def level(depth):
        if depth:
            await asyncio.create_task(level(depth - 1), name=str(depth - 1))
        else:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            chain = observe.awaited_by_chain(asyncio.current_task())
            assert [task.get_name() for task in chain[:3]] == ["1", "2", "3"]

    async def main():
        await asyncio.create_task(level(3), name="3")

    run(main())


def test_a_future_without_a_task_is_awaited_too(run):
    async def main():
        future = asyncio.get_running_loop().create_future()

        async def waits():
            await future

        assert observe.awaited_by(future) == ()
        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        waiters = observe.awaited_by(future)
        future.set_result(None)
        await task
        assert waiters == (task,)

    run(main())
