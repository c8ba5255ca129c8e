"""What a program can know of its loops and tasks."""

import asyncio
import threading
import time

import ferrio
import pytest
from ferrio import observe


def run(coroutine):
    return ferrio.run(coroutine)


def test_a_loops_statistics_count_what_it_does():
    async def main():
        before = observe.loop_stats()
        for _ in range(100):
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        time.sleep(0.12)
        await asyncio.sleep(0.001)
        after = observe.loop_stats()
        assert after.state == "running"
        assert after.steps - before.steps >= 102
        assert after.turns - before.turns >= 102
        assert after.sleeps - before.sleeps == 2
        assert after.asleep - before.asleep >= 0.05
        assert after.busy - before.busy >= 0.12
        assert 0 < after.utilization < 1
        assert after.slow_turns - before.slow_turns == 1 and after.longest_turn >= 0.12
        assert after.lateness.count - before.lateness.count == 2
        assert 0 < after.lateness.percentile(50) <= after.lateness.percentile(100) <= after.lateness.longest
        # The second stretch was the long one.
        assert after.stretches.percentile(100) >= 0.09

    run(main())


def test_statistics_from_another_thread_and_of_an_idle_loop():
    loop = ferrio.new_event_loop()
    assert observe.loop_stats(loop).state == "idle"
    assert observe.loop_stats(loop).utilization == 0.0
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    while observe.loop_stats(loop).state != "asleep":
        time.sleep(0.001)
    assert loop in observe.loops()
    first = observe.loop_stats(loop)
    time.sleep(0.01)
    # A sleep that lasts counts.
    assert observe.loop_stats(loop).asleep - first.asleep >= 0.01
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    after = observe.loop_stats(loop)
    assert after.state == "idle" and after.steps >= 1
    loop.close()
    assert loop not in observe.loops()


def test_loops_count_only_their_own_time():
    loop = ferrio.new_event_loop()
    for _ in range(2):
        loop.run_until_complete(asyncio.sleep(0.01))
        time.sleep(0.3)
    stats = observe.loop_stats(loop)
    loop.close()
    assert 0.02 <= stats.busy + stats.asleep < 0.3


def test_bad_arguments_are_refused():
    with pytest.raises(RuntimeError, match="no running event loop"):
        observe.loop_stats()
    with pytest.raises(RuntimeError, match="no running event loop"):
        observe.tasks()
    stock = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError, match="ferrio.EventLoop"):
        observe.loop_stats(stock)
    stock.close()
    with pytest.raises(ValueError, match="percent"):
        observe.Times(0, 0.0, ()).percentile(101)
    with pytest.raises(TypeError, match="Future"):
        observe.awaited_by(1)


def test_percentiles_are_of_the_counts():
    times = observe.Times(10, 0.9, ((0.001, 5), (0.01, 4), (1.0, 1)))
    assert [times.percentile(part) for part in (0, 50, 51, 90, 91, 100)] == [0.001, 0.001, 0.01, 0.01, 0.9, 0.9]
    assert observe.Times(0, 0.0, ()).percentile(99) == 0.0


def test_tasks_say_what_they_do_and_where():
    async def inner():
        await asyncio.get_running_loop().create_future()

    async def waits():
        await inner()

    async def main():
        waiting = asyncio.create_task(waits(), name="waiting")
        await asyncio.sleep(0)
        ready = asyncio.create_task(waits(), name="ready")
        known = {stats.task: stats for stats in observe.tasks()}
        assert set(known) == {asyncio.current_task(), waiting, ready}
        assert [known[task].state for task in (asyncio.current_task(), waiting, ready)] == [
            "running",
            "waiting",
            "ready",
        ]
        assert known[waiting].name == "waiting" and known[waiting].coroutine.endswith("waits")
        assert known[waiting].where.name == "inner" and known[waiting].where.lineno == inner.__code__.co_firstlineno + 1
        assert known[waiting].waits_for is waiting._fut_waiter
        assert known[ready].where is None and known[ready].waits_for is None
        assert known[waiting].awaited_by == ()
        waiting.cancel(), ready.cancel()

    run(main())


def test_the_level_is_wanted_and_told():
    before = observe.level()
    try:
        assert before == "pulse"
        assert observe.level("flight") == "pulse"

        async def main():
            await asyncio.sleep(0.001)
            assert asyncio.get_running_loop()._level == "flight"

        run(main())
        assert observe.level() == "flight"
    finally:
        observe.level(before)
    with pytest.raises(ValueError, match="level must be"):
        observe.level("high")
