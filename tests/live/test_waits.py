"""Who could end a wait: the calls in executors, timeouts, and who has a lock."""

import asyncio
import concurrent.futures
import contextlib
import sys
import threading
import weakref

import ferrio
import pytest
from ferrio.executors import DefaultExecutor
from ferrio.live import snapshot, why, words

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="snapshots are taken on Linux alone")

modules = pytest.mark.parametrize("module", [asyncio, ferrio], ids=["asyncio", "ferrio"])


def waits(coroutines, before=lambda loop: None, after=lambda: None, settled=lambda: True):
    """What is said of the waits of tasks with these names, once all has ``settled``: (the Wait, who could end it)."""

    async def main():
        loop = asyncio.get_running_loop()
        before(loop)
        tasks = [asyncio.create_task(coroutine, name=name) for name, coroutine in coroutines.items()]
        for _ in range(10):
            await asyncio.sleep(0.01)
        while not settled():
            await asyncio.sleep(0.01)
        taken = snapshot.take(loop, snapshot.Memory())
        after()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return {
            one["name"]: (one["wait"], words.wait(one["wait"])[1])
            for one in taken["tasks"]["described"]
            if one["name"] in coroutines
        }

    return asyncio.Runner(loop_factory=ferrio.new_event_loop).run(main())


class Gate(threading.Event):
    """An event that says how many threads have come to wait for it."""

    waiting = 0

    def wait(self):
        self.waiting += 1
        super().wait()


@pytest.mark.parametrize("kind", ["the default one", "another one", "to_thread"])
def test_a_call_in_an_executor_runs_or_stands_in_line(kind):
    go, other = Gate(), concurrent.futures.ThreadPoolExecutor(2)

    async def call():
        if kind == "to_thread":
            await asyncio.to_thread(go.wait)
        else:
            await asyncio.get_running_loop().run_in_executor(None if kind == "the default one" else other, go.wait)

    known = waits(
        {f"call {number}": call() for number in range(5)},
        before=lambda loop: loop.set_default_executor(DefaultExecutor(2)),
        after=go.set,
        settled=lambda: go.waiting == 2,
    )
    other.shutdown()
    running = [wait for wait, _ in known.values() if "runs" in wait]
    lined = {name: wait["in_line"] for name, (wait, _) in known.items() if "in_line" in wait}
    assert len(running) == 2
    assert {wait["calls"][0] for wait in running} == {"Gate.wait"}
    # In the order in which they were made.
    assert lined == {"call 2": 1, "call 3": 2, "call 4": 3}
    assert "2nd of 3 in line, and 2 threads are busy" in known["call 3"][1]
    assert known["call 4"][0]["calls"][0] == "Gate.wait"
    if kind != "another one":
        assert all(wait["runs"] > 0 for wait in running)
        assert "it has run for " in known["call 0"][1]


def test_looking_at_executors_keeps_no_call_alive():
    class Argument:
        pass

    async def main():
        loop, go, executor = asyncio.get_running_loop(), Gate(), concurrent.futures.ThreadPoolExecutor(1)
        argument = Argument()
        reference = weakref.ref(argument)
        call = loop.run_in_executor(executor, lambda given: go.wait(), argument)
        del argument
        while not go.waiting:
            await asyncio.sleep(0.01)
        snapshot.take(loop, snapshot.Memory())
        assert reference() is not None
        go.set()
        await call
        del call
        # The thread lets go of it when it has told.
        for _ in range(500):
            if reference() is None:
                break
            await asyncio.sleep(0.01)
        executor.shutdown()
        return reference()

    assert asyncio.Runner(loop_factory=ferrio.new_event_loop).run(main()) is None


@modules
def test_a_timeout_is_who_could_end_it(module):
    promise = []

    async def limited():
        promise.append(asyncio.get_running_loop().create_future())
        async with module.timeout(50):
            await promise[0]

    async def patient():
        promise.append(asyncio.get_running_loop().create_future())
        await module.wait_for(promise[1], 60)

    known = waits({"limited": limited(), "patient": patient()})
    for name, seconds in (("limited", 50), ("patient", 60)):
        wait, end = known[name]
        (limit,) = [leaf for leaf in wait["of"] if leaf.get("limit")]
        assert seconds - 5 < limit["in"] <= seconds
        assert "Or: Its timeout, due in " in end


@modules
def test_who_joins_a_queue_is_told_how_often_task_done_is_missing(module):
    async def joins(queue, taken):
        for number in range(3):
            queue.put_nowait(number)
        for _ in range(taken):
            queue.get_nowait()
        await queue.join()

    queues = {taken: module.Queue() for taken in (0, 1, 3)}
    known = waits({f"{taken} taken": joins(queue, taken) for taken, queue in queues.items()})
    assert {wait["kind"] for wait, _ in known.values()} == {"queue-join"}
    assert known["0 taken"][1] == "Whoever takes out what is in it, and says task_done() to each."
    assert known["1 taken"][1].endswith(": 1 item was taken out without task_done().")
    assert known["3 taken"][1].endswith(": 3 items were taken out without task_done().")


@modules
def test_a_child_process_may_wait_for_who_reads_what_it_has_written(module):
    full = []

    async def until_it_ends(script):
        pipe = module.subprocess.PIPE
        process = await module.create_subprocess_exec(sys.executable, "-c", script, stdin=pipe, stdout=pipe)
        full.append(lambda: process.stdout._paused)
        try:
            await process.wait()
        finally:
            # (asyncio does not hear of the end of one whose output is not read.)
            process.kill()
            process._transport.close()

    scripts = {"writes": "print('x' * 10_000_000)", "waits": "input()"}
    known = waits(
        {name: until_it_ends(script) for name, script in scripts.items()},
        settled=lambda: len(full) == 2 and any(each() for each in full),
    )
    assert known["writes"][1].endswith(", by ending. Its stdout is full: until that is read, it may not go on.")
    assert known["waits"][1].endswith(", by ending.")


def test_of_a_task_that_was_cancelled_and_goes_on_why_says_so():
    async def goes_on():
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(100)

    async def main():
        tasks = [asyncio.create_task(goes_on(), name=name) for name in ("asked", "left alone")]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        taken = snapshot.take(asyncio.get_running_loop(), snapshot.Memory())
        return {one["name"]: "\n".join(why.about(one, 0.0)) for one in taken["tasks"]["described"]}, tasks

    loop = ferrio.new_event_loop()
    told, _ = loop.run_until_complete(main())
    loop.close()
    assert "was asked to end (cancelled), and has not ended" in told["asked"]
    assert "was asked" not in told["left alone"]


@modules
def test_a_lock_that_was_taken_with_acquire(module):
    lock = None

    async def takes():
        nonlocal lock
        lock = module.Lock()
        await lock.acquire()
        await asyncio.sleep(100)

    async def enters():
        async with lock:
            pass

    async def acquires():
        with contextlib.suppress(asyncio.CancelledError):
            await lock.acquire()

    known = waits({"takes": takes(), "enters": enters(), "acquires": acquires()})
    for name in ("enters", "acquires"):
        wait, end = known[name]
        assert wait["kind"] == "lock"
        if module is ferrio:
            assert end == "takes takes(), which took it with acquire(), by releasing it."
            ((file, _, function),) = wait["at"]
            assert file == __file__ and function.endswith("takes")
        else:
            assert wait["holder"] is None
            assert wait["in_hand"] == ["takes"]
            assert end.endswith("Besides those who wait, takes has it in hand.")


def held(take, kind=ferrio.Lock, **others):
    """Who could end the wait for a lock that ``take(lock)`` has taken somehow, while ``others`` do what they do with it."""
    made = []

    async def taker():
        made.append(kind())
        await take(made[0])

    async def waiter():
        await asyncio.sleep(0.03)
        async with made[0]:
            pass

    coroutines = {name: other(made) for name, other in others.items()}
    return waits({"taker": taker(), **coroutines, "waiter": waiter()})["waiter"]


def test_a_lock_is_held_by_who_took_it_last():
    async def take(lock):
        await lock.acquire()
        await asyncio.sleep(100)

    async def releases(locks):
        await asyncio.sleep(0)
        locks[0].release()

    async def takes(locks):
        await locks[0].acquire()
        await asyncio.sleep(100)

    assert held(take, takes=takes, releases=releases)[1].startswith("takes takes(), which took it with acquire()")


def test_whoever_is_inside_of_a_lock_ends_it_by_leaving():
    async def take(lock):
        async with lock:
            await asyncio.sleep(100)

    assert (
        held(take)[1] == held(take, kind=ferrio.Condition)[1] == "taker taker(), which is inside of it, by leaving it."
    )


def test_a_lock_is_held_inside_of_an_async_generator_that_a_task_has_in_its_hands():
    async def rows(lock):
        async with lock:
            yield 1

    async def take(lock):
        async for _ in rows(lock):
            await asyncio.sleep(100)

    assert held(take)[1] == "taker taker(), which is inside of it, by leaving it."


def test_the_lock_of_a_condition_was_taken_with_acquire():
    async def take(condition):
        await condition.acquire()
        await asyncio.sleep(100)

    assert held(take, kind=ferrio.Condition)[1].startswith("taker taker(), which took it with acquire()")


@pytest.mark.parametrize("name", ["its own", "Task-7"])
def test_a_task_has_finished_without_releasing_its_lock(name):
    async def take(lock):
        # Nobody keeps the task, so it is gone when somebody looks.
        task = asyncio.create_task(lock.acquire())
        task.set_name(name)
        await task

    assert (
        held(take)[1] == f"{name} Lock.acquire(), which has finished without releasing it: another task would have to."
    )


def test_a_task_without_a_name_has_finished_without_releasing_its_lock():
    names = []

    async def acquires(lock):
        await lock.acquire()

    async def take(lock):
        task = asyncio.create_task(acquires(lock))
        await task
        names.append(task.get_name())

    assert held(take)[1].startswith(names[0] + " acquires(), which has finished without releasing it")


def test_a_task_waits_for_a_lock_that_it_has():
    async def twice(lock):
        await lock.acquire()
        await lock.acquire()

    wait, end = waits({"twice": twice(ferrio.Lock())})["twice"]
    assert wait["held"] == "itself" and end.startswith("Another task, by releasing it: this one has taken it already")


def test_a_lock_was_taken_outside_of_any_task():
    async def take(lock):
        def acquire():
            with contextlib.suppress(StopIteration):
                lock.acquire().send(None)

        asyncio.get_running_loop().call_soon(acquire)
        await asyncio.sleep(0)

    assert held(take)[1] == "Whoever took it outside of any task, by releasing it."


def test_a_lock_was_taken_by_setting_its_attribute():
    async def take(lock):
        await lock.acquire()
        lock._locked = True
        await asyncio.sleep(100)

    wait, end = held(take)
    assert wait["holder"] is None and end.endswith("Besides those who wait, taker has it in hand.")
