"""`ferrio.observe`: what a program learns of its own loops."""

import asyncio
import os
import subprocess
import sys
import threading

import ferrio
import pytest
from ferrio import observe
from ferrio.flight import log, steps


def test_a_loops_counters_count():
    async def main():
        before = observe.loop_stats()
        for _ in range(5):
            await asyncio.sleep(0.005)
        return before, observe.loop_stats()

    before, after = ferrio.run(main())
    assert after.state == "running" and after.steps >= before.steps + 5 and after.turns >= before.turns + 5
    assert after.sleeps >= before.sleeps + 5 and 0.02 < after.asleep - before.asleep <= after.running
    assert 0 < after.utilization < 1 and after.late.count == 5
    assert 0 < after.late.percentile(50) <= after.late.percentile(99) and after.late.longest > 0
    assert after.busy.count >= 5 and after.level == "pulse"


def test_a_loop_is_looked_at_from_another_thread():
    loop = ferrio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        while observe.loop_stats(loop).state != "asleep":
            pass
        stats = observe.loop_stats(loop)
        assert stats.running > 0 and stats.asleep >= 0
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
    assert observe.loop_stats(loop).state == "idle" and observe.loop_stats(loop).running == 0
    loop.close()


def test_a_run_after_a_pause_does_not_count_the_sleeps_before_it():
    loop = ferrio.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0.1))

    async def busy():
        first = observe.loop_stats()
        end = loop.time() + 0.05
        while loop.time() < end:
            pass
        return first, observe.loop_stats()

    first, stats = loop.run_until_complete(busy())
    loop.close()
    assert stats.asleep >= 0.1 and stats.utilization > 0.5


def test_bad_arguments_are_refused():
    with pytest.raises(RuntimeError, match="no running event loop"):
        observe.loop_stats()
    stock = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError, match="a ferrio event loop is expected"):
        observe.loop_stats(stock)
    stock.close()
    with pytest.raises(ValueError, match="level must be"):
        observe.level("loud")
    with pytest.raises(TypeError, match="callable"):
        observe.on_slow_step(None)
    for threshold in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="positive number of seconds"):
            observe.on_slow_step(print, threshold)
    with pytest.raises(ValueError, match="percentile"):
        observe.Times(0, 0.0, []).percentile(0)
    assert observe.Times(0, 0.0, []).percentile(50) == 0.0


def test_tasks_tell_where_they_stand_and_what_they_wait_for():
    async def inner(event):
        await event.wait()

    async def outer(event):
        await inner(event)

    async def main():
        event = asyncio.Event()
        task = asyncio.create_task(outer(event), name="the outer")
        fresh = asyncio.create_task(inner(event))
        before = {stats.task: stats for stats in observe.tasks()}
        await asyncio.sleep(0)
        after = {stats.task: stats for stats in observe.tasks()}
        event.set()
        await asyncio.gather(task, fresh)
        return task, fresh, before, after

    task, fresh, before, after = ferrio.run(main())
    assert before[task].place is None and before[fresh].waits_for is None
    stats = after[task]
    assert stats.name == "the outer" and stats.coroutine.endswith("outer")
    code = inner.__code__
    assert stats.place == (__file__, code.co_firstlineno + 1) and stats.waits_for is not None
    assert len(after) == 3


WAYS = {
    "await": lambda target, other: _await(target),
    "gather": lambda target, other: _gather(target, other),
    "wait": lambda target, other: asyncio.wait([target, other]),
    "wait_for": lambda target, other: asyncio.wait_for(target, 60),
    "shield": lambda target, other: _await(asyncio.shield(target)),
    "gather and shield": lambda target, other: _gather(asyncio.shield(target), other),
}


async def _await(target):
    await target


async def _gather(*targets):
    await asyncio.gather(*targets)


@pytest.mark.parametrize("names", ["asyncio's", "ferrio's"])
@pytest.mark.parametrize("way", WAYS)
def test_who_waits_for_a_task_is_found(way, names):
    async def main():
        target = asyncio.create_task(asyncio.sleep(60), name="target")
        other = asyncio.create_task(asyncio.sleep(60), name="other")
        waiter = asyncio.create_task(WAYS[way](target, other), name="waiter")
        last = asyncio.create_task(_await(waiter), name="last")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        found = observe.awaited_by(target), observe.awaited_by_chain(target)
        nobody = observe.awaited_by(last)
        siblings = observe.awaited_by(other)
        for task in (last, waiter, target, other):
            task.cancel()
        await asyncio.gather(last, waiter, target, other, return_exceptions=True)
        return [[task.get_name() for task in tasks] for tasks in (*found, nobody, siblings)]

    if names == "ferrio's":
        ferrio.install()
    try:
        direct, chain, nobody, siblings = ferrio.run(main())
    finally:
        ferrio.uninstall()
    assert direct == ["waiter"] and chain == ["waiter", "last"] and nobody == []
    assert siblings == (["waiter"] if way in {"gather", "wait", "gather and shield"} else [])


def test_who_waits_for_a_group_waits_for_its_tasks():
    async def parent(tasks):
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(asyncio.sleep(60), name=f"child {number}") for number in range(2)]

    async def main():
        tasks = []
        waiter = asyncio.create_task(parent(tasks), name="parent")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        found = [observe.awaited_by(task) for task in tasks]
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        return found, waiter

    found, waiter = ferrio.run(main())
    assert found == [[waiter], [waiter]]


def test_the_record_can_be_switched_on_and_saved(tmp_path):
    async def main():
        before = observe.level("flight")
        await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        kept = observe.dump(tmp_path / "it.xlog")
        assert observe.level("pulse") == "flight"
        return before, kept

    before, kept = ferrio.run(main())
    assert before == "pulse" and kept > 3
    saved = log.load(tmp_path / "it.xlog")
    assert len(saved.records) == kept and saved.process["pid"] == os.getpid()
    assert steps.understand(saved).steps


def test_without_a_page_nothing_can_be_saved(tmp_path):
    program = "from ferrio import observe\nobserve.dump('it.xlog')"
    environment = os.environ | {"FERRIO_PAGE": "off"}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30
    )
    assert "OSError: this process has no page" in ran.stderr


def test_nothing_is_imported_that_nobody_asked_for():
    program = """
import asyncio, sys, ferrio, threading
ferrio.run(asyncio.sleep(0.01))
wanted = [name for name in sys.modules if name.startswith(("ferrio.observe", "ferrio._watchdog", "ferrio.flight"))]
print(wanted, threading.active_count(), [name for name in sys.modules if "opentelemetry" in name or "prometheus" in name])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert ran.stdout == "[] 1 []\n", ran.stderr
