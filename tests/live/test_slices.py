"""A snapshot is taken in slices: whatever happens between them, what was there all the while is told of, and once."""

import asyncio
import collections
import os
import subprocess
import sys
import threading
import weakref

import ferrio
import pytest
from ferrio.executors import DefaultExecutor
from ferrio.live import resources, snapshot, timers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="snapshots are taken on Linux alone")

MANY = 100_000


def run(program):
    return asyncio.Runner(loop_factory=ferrio.new_event_loop).run(program())


async def between(generator, step, every=1):
    """What a generator returns, with a `step` after so many of its pieces; and how many pieces those were."""
    pieces = 0
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value, pieces
        pieces += 1
        if pieces % every == 0:
            await step()


def taking():
    loop = asyncio.get_running_loop()
    return snapshot.taking(weakref.ref(loop), snapshot.Memory(), True)


def by_name(kinds):
    counts = collections.Counter()
    for kind in kinds:
        counts[kind["calls"][0].rpartition(".")[2]] += kind["count"]
    return counts


def test_a_hundred_thousand_timers_and_tasks():
    def stays():
        pass

    def goes():
        pass

    async def waits(event):
        await event.wait()

    async def passes():
        await asyncio.sleep(0)

    async def program():
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        tasks = [asyncio.create_task(waits(event)) for _ in range(MANY)]
        # Some are due after all others, some between them: the queue and the heap.
        staying = [loop.call_later(1000 + number % 97, stays) for number in range(MANY)]
        going = collections.deque(loop.call_later(500 + number % 7, goes) for number in range(1000))
        await asyncio.sleep(0)

        async def step():
            for _ in range(5):
                going.popleft().cancel()
                going.append(loop.call_later(2000, goes))
                loop.call_later(0.001, goes)
                asyncio.create_task(passes())
            await asyncio.sleep(0.002)

        taken, pieces = await between(taking(), step, every=20)
        assert pieces > 1500
        event.set()
        await asyncio.gather(*tasks)
        for timer in [*staying, *going]:
            timer.cancel()
        return taken

    taken = run(program)
    assert by_name(taken["timers"]["kinds"])["stays"] == MANY
    assert MANY + 1000 <= taken["timers"]["count"] < MANY + 2000
    assert 0 < taken["timers"]["next"] < 500
    counts = {group["coro"].rpartition(".")[2]: group["count"] for group in taken["tasks"]["groups"]}
    assert counts["waits"] == MANY
    assert taken["tasks"]["count"] >= MANY + 1


def test_a_hundred_thousand_ready_callbacks():
    def one():
        pass

    def other():
        pass

    async def program():
        loop = asyncio.get_running_loop()
        for number in range(MANY):
            loop.call_soon(one if number % 5 else other)
        return snapshot.take(loop, snapshot.Memory(), False)["ready"]

    ready = run(program)
    assert ready["count"] == MANY
    # They stand for those that were not looked at.
    counts = by_name(ready["kinds"])
    assert sum(counts.values()) == pytest.approx(MANY, rel=0.001)
    assert counts["other"] == pytest.approx(MANY / 5, rel=0.05)


def test_tasks_that_go_on_meanwhile_are_told_of_with_the_timer_that_they_wait_for_then(monkeypatch):
    monkeypatch.setattr(timers, "_PIECE", 4)

    async def naps():
        while True:
            await asyncio.sleep(0.002)

    async def hurries():
        while True:
            async with ferrio.timeout(50):
                await asyncio.sleep(0.002)

    async def program():
        tasks = [asyncio.create_task(program()) for program in [naps, hurries] for _ in range(40)]
        await asyncio.sleep(0)
        taken, _ = await between(taking(), lambda: asyncio.sleep(0.0005))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return taken["tasks"]["described"]

    described = run(program)
    waits = {name: [one["wait"] for one in described if one["coro"].endswith(name)] for name in ["naps", "hurries"]}
    assert [len(each) for each in waits.values()] == [40, 40]
    # One that is ready waits no more; one whose timer has just gone off waits for its turn.
    napping, hurrying = [[wait for wait in each if wait is not None] for each in waits.values()]
    assert {wait["kind"] for wait in napping} - {"turn"} == {"timer"}
    assert all(wait["in"] <= 0.002 for wait in napping if wait["kind"] == "timer")
    assert {wait["of"][0]["kind"] for wait in hurrying} - {"turn"} == {"timer"}
    assert all(49 < wait["of"][1]["in"] <= 50 for wait in hurrying)


def test_descriptors(monkeypatch):
    monkeypatch.setattr(resources, "_WATCHED", 16)

    async def program():
        loop = asyncio.get_running_loop()
        reads, writes = os.pipe()
        staying = [os.dup(reads) for _ in range(300)]
        going = [os.dup(reads) for _ in range(300)]
        for fd in staying + going:
            loop.add_reader(fd, print)
        for fd in going[::2]:
            loop.remove_reader(fd)
        watched = resources.Watched()

        async def step():
            for fd in [going.pop(0), going.pop()]:
                loop.remove_reader(fd)
                os.close(fd)
            new = os.dup(reads)
            loop.add_reader(new, print)
            going.append(new)

        _, pieces = await between(watched.look(weakref.ref(loop)), step)
        taken, _ = await between(resources.descriptors(weakref.ref(loop), watched, 400, {}, 0.0), step)
        for fd in staying + going:
            loop.remove_reader(fd)
            os.close(fd)
        os.close(reads)
        os.close(writes)
        return set(staying), watched.numbers, pieces, taken

    staying, numbers, pieces, taken = run(program)
    assert pieces >= 30
    assert staying < set(numbers)
    assert len(set(numbers)) == len(numbers) == taken["count"]
    described = {one["fd"]: one for one in taken["described"]}
    assert staying <= set(described) <= set(numbers)
    assert all(one["watched"] == ["read"] and one["owner"] == "print" for one in described.values())


def test_calls_that_stand_in_line(monkeypatch):
    monkeypatch.setattr(resources, "_IN_LINE_PIECE", 16)
    gate, begun = threading.Semaphore(0), threading.Semaphore(0)

    def call():
        begun.release()
        gate.acquire()

    async def program():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(DefaultExecutor(1))
        futures = [loop.run_in_executor(None, call) for _ in range(500)]
        begun.acquire()
        jobs, gone = resources.Jobs(), 1

        async def step():
            nonlocal gone
            for _ in range(3):
                gate.release()
                begun.acquire()
                gone += 1

        _, pieces = await between(jobs.look(weakref.ref(loop)), step)
        left = [jobs.about(future) for future in futures[gone:]]
        for _ in futures:
            gate.release()
        await asyncio.gather(*futures)
        return pieces, left

    pieces, left = run(program)
    assert pieces > 20
    # Each was told of as it was at one moment, when at most so many more were before it.
    assert len(left) > 300
    assert all(number <= about["in_line"] <= number + 500 - len(left) for number, about in enumerate(left, 1))


def test_whoever_forbids_programs_to_block_the_loop_does_not_forbid_a_snapshot():
    # As blockbuster does.
    program = """if True:
        import asyncio, functools, os
        import ferrio
        from ferrio import _helpers

        def forbid(module, name):
            function = getattr(module, name)

            @functools.wraps(function)
            def forbidden(*args, **kwargs):
                if asyncio._get_running_loop():
                    raise RuntimeError(f"blocks: {name}")
                return function(*args, **kwargs)

            setattr(module, name, forbidden)

        async def main():
            for name in "access", "getcwd", "listdir", "readlink", "stat":
                forbid(os, name)
            forbid(os.path, "abspath")
            task = asyncio.create_task(asyncio.sleep(60))
            await asyncio.sleep(0)
            while _helpers.write_snapshot(asyncio.get_running_loop()):
                pass
            assert asyncio.get_running_loop()
            task.cancel()

        ferrio.run(main())
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_first_one_imports_a_module_at_a_time_and_none_that_are_dear():
    program = """if True:
        import asyncio, sys
        import ferrio
        from ferrio import _helpers

        async def main():
            more = True
            while more:
                before = set(sys.modules)
                more = _helpers.write_snapshot(asyncio.get_running_loop())
                print(*set(sys.modules) - before)

        ferrio.run(main())
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    slices = [line.split() for line in done.stdout.splitlines()]
    # (A package comes with its first module.)
    own = [[name for name in names if name.startswith("ferrio.") and name != "ferrio.explain"] for names in slices]
    assert max(map(len, own)) == 1
    others = {name for names in slices for name in names if not name.startswith(("ferrio.", "json"))}
    # Besides `json`, which takes a millisecond, only small ones of C's. (`struct` asyncio has imported before 3.15.)
    assert others <= {"_json", "_struct", "array", "fcntl", "gc", "struct", "termios"}
