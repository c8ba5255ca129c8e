"""asyncio's locks: what programs do with them beside acquiring and releasing."""

import asyncio
import collections
import concurrent.futures
import contextlib
import copy
import gc
import inspect
import math
import pickle
import sys
import weakref

import ferrio
import pytest
from ferrio import _ferrio

MAKERS = {
    "Lock": lambda namespace: namespace.Lock(),
    "Event": lambda namespace: namespace.Event(),
    "Condition": lambda namespace: namespace.Condition(),
    "Semaphore": lambda namespace: namespace.Semaphore(2),
    "BoundedSemaphore": lambda namespace: namespace.BoundedSemaphore(2),
    "Barrier": lambda namespace: namespace.Barrier(2),
}
ENTERED = ["Lock", "Condition", "Semaphore", "BoundedSemaphore"]


async def blocked(*coroutines):
    """Tasks that have got as far as they can."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


def said(thing):
    return repr(thing).partition(" object at ")[2].partition(" ")[2]


# --- what kind of thing it is ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_ferrios_class_is_one_of_asyncios_and_asyncios_counts_as_one_of_ferrios(name):
    make, ours, theirs = MAKERS[name], getattr(ferrio, name), getattr(asyncio, name)
    assert isinstance(make(ferrio), theirs) and isinstance(make(asyncio), ours)
    assert issubclass(type("Users", (theirs,), {}), ours)
    assert not isinstance(object(), ours)


@pytest.mark.parametrize("name", MAKERS)
def test_copies_and_pickles_are_as_asyncios(name, namespace):
    thing = MAKERS[name](namespace)
    thing.name = "a user's attribute"
    for twin in (pickle.loads(pickle.dumps(thing)), copy.deepcopy(thing), copy.copy(thing)):
        assert type(twin) is type(thing)
        assert (said(twin), twin.name) == (said(thing), thing.name)


@pytest.mark.parametrize("name", MAKERS)
def test_one_that_refers_to_itself_is_collected(name, namespace):
    thing = MAKERS[name](namespace)
    thing.itself = thing
    gone = weakref.ref(thing)
    del thing
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_awaited_are_coroutine_functions(name, namespace):
    thing = MAKERS[name](namespace)
    names = {"acquire", "wait"} & set(dir(thing))
    assert names and all(inspect.iscoroutinefunction(getattr(thing, name)) for name in names)


@pytest.mark.parametrize("name", ENTERED)
def test_it_says_what_asyncios_says(name, run):
    async def main(namespace):
        thing, seen = MAKERS[name](namespace), []
        seen.append(said(thing))
        async with thing as entered:
            assert entered is None
            seen.append(said(thing))
            waiting = await blocked(*(thing.acquire() for _ in range(3)))
            seen.append(said(thing))
        assert await waiting[0] is True
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        seen.append(said(thing))
        return seen

    assert run(main(ferrio)) == run(main(asyncio))


@pytest.mark.parametrize("name", MAKERS)
def test_one_belongs_to_the_loop_on_which_somebody_waited(name, namespace, run):
    thing = MAKERS[name](namespace)
    methods = {"Event": "wait", "Barrier": "wait"}

    async def wait():
        method = getattr(thing, methods.get(name, "acquire"))
        for _ in range(3 if name not in methods else 1):
            last = asyncio.ensure_future(method())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(last, 0.001)

    async def fail():
        with pytest.raises(RuntimeError, match=r"is bound to a different event loop$"):
            await wait()

    run(wait())
    run(fail())


@pytest.mark.parametrize(
    "wait",
    [
        lambda namespace: namespace.Event().wait(),
        lambda namespace: namespace.Semaphore(0).acquire(),
        lambda namespace: namespace.Barrier(2).wait(),
        lambda namespace: namespace.Queue().get(),
    ],
    ids=["Event", "Semaphore", "Barrier", "Queue"],
)
def test_waits_on_the_loop_that_a_replaced_get_running_loop_tells_of(wait, namespace, monkeypatch):
    with contextlib.closing(asyncio.SelectorEventLoop()) as other:
        monkeypatch.setattr(asyncio.events, "_get_running_loop", lambda: other)
        with contextlib.closing(wait(namespace)) as waiting:
            future = waiting.send(None)
            assert future.get_loop() is other


@pytest.mark.parametrize("name", ["Lock", "Event", "Semaphore"])
def test_a_waiter_that_is_closed_waits_no_more(name, namespace, run):
    async def main():
        thing = MAKERS[name](namespace)
        if name != "Event":
            while not thing.locked():
                await thing.acquire()
        waiting = thing.wait() if name == "Event" else thing.acquire()
        waiting.send(None)
        assert len(thing._waiters) == 1
        waiting.close()
        assert len(thing._waiters) == 0

    run(main())


# --- subclasses ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Lock", "Semaphore", "BoundedSemaphore"])
def test_async_with_calls_a_subclasss_own_methods(name, namespace, run):
    calls = []

    class Own(getattr(namespace, name)):
        async def acquire(self):
            calls.append("acquire")
            return await super().acquire()

        def release(self):
            calls.append("release")
            super().release()

    async def main():
        lock = Own()
        async with lock:
            assert lock.locked()
        assert not lock.locked()
        return calls

    assert run(main()) == ["acquire", "release"]


def test_a_mixin_counts_as_much_as_the_class_itself(namespace, run):
    class Counting:
        entered = 0

        async def acquire(self):
            self.entered += 1
            return await super().acquire()

    class CountingLock(Counting, namespace.Lock):
        pass

    async def main():
        lock = CountingLock()
        async with lock:
            pass
        return lock.entered

    assert run(main()) == 1


def test_a_semaphores_own_locked_decides(namespace, run):
    class Closed(namespace.Semaphore):
        closed = True

        def locked(self):
            return self.closed or super().locked()

    async def main():
        semaphore = Closed(5)
        (waiting,) = await blocked(semaphore.acquire())
        assert not waiting.done()
        semaphore.closed = False
        semaphore.release()
        await waiting
        async with semaphore:
            assert semaphore._value == 4

    run(main())


def test_a_subclass_may_take_arguments_of_its_own(namespace, run):
    class Named(namespace.Lock):
        def __init__(self, name, *, note):
            super().__init__()
            self.name = name, note

    async def main():
        async with Named("a", note="b") as nothing:
            assert nothing is None

    run(main())


# --- numbers ------------------------------------------------------------------------------------------------------------------------------


def test_a_semaphore_of_endless_many_never_blocks(namespace, run):
    async def main():
        semaphore = namespace.Semaphore(math.inf)
        for _ in range(100):
            await semaphore.acquire()
        assert semaphore._value == math.inf and not semaphore.locked()

    run(main())


@pytest.mark.parametrize("value", [-1, -0.5])
def test_a_semaphore_cannot_begin_below_nothing(namespace, value):
    with pytest.raises(ValueError, match="initial value must be >= 0"):
        namespace.Semaphore(value)
    with pytest.raises(ValueError, match="initial value must be >= 0"):
        namespace.BoundedSemaphore(value=value)


def test_a_semaphore_is_counted_by_numbers(namespace):
    with pytest.raises(TypeError):
        namespace.Semaphore("two")


def test_a_bounded_semaphore_is_not_released_more_often_than_acquired(namespace, run):
    async def main():
        semaphore = namespace.BoundedSemaphore()
        assert (semaphore._bound_value, semaphore._value) == (1, 1)
        await semaphore.acquire()
        semaphore.release()
        with pytest.raises(ValueError, match="released too many times"):
            semaphore.release()

    run(main())


def test_releasing_a_free_lock_is_an_error(namespace):
    with pytest.raises(RuntimeError, match="Lock is not acquired"):
        namespace.Lock().release()


def test_a_barrier_needs_somebody(namespace):
    with pytest.raises(ValueError, match="parties must be"):
        namespace.Barrier(0)


# --- conditions ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [asyncio, ferrio], ids=lambda module: module.__name__)
def test_conditions_share_a_lock_of_either_kind(namespace, other, run):
    async def main():
        lock = other.Lock()
        one, two = namespace.Condition(lock), asyncio.Condition(lock)
        assert one._lock is lock
        (waiting,) = await blocked(wait_within(one))
        async with two:
            assert one.locked() and lock.locked()
            one.notify()
        assert await waiting is True

    run(main())


async def wait_within(condition):
    async with condition:
        return await condition.wait()


def test_a_condition_wants_its_lock_to_be_had(namespace, run):
    async def main():
        condition = namespace.Condition()
        for call in (condition.notify, condition.notify_all):
            with pytest.raises(RuntimeError, match="cannot notify on un-acquired lock"):
                call()
        with pytest.raises(RuntimeError, match="cannot wait on un-acquired lock"):
            await condition.wait()

    run(main())


def test_as_many_are_notified_as_is_said(namespace, run):
    async def main():
        condition = namespace.Condition()
        tasks = await blocked(*(wait_within(condition) for _ in range(5)))
        counts = []
        for number in (0, 1, 3, -1):
            async with condition:
                condition.notify(n=number)
            await asyncio.sleep(0.001)
            counts.append(sum(task.done() for task in tasks))
        async with condition:
            condition.notify_all()
        await asyncio.gather(*tasks)
        return counts

    assert run(main()) == [0, 1, 4, 4]


def test_a_waiter_that_is_cancelled_has_the_lock_when_it_leaves(namespace, run):
    async def main():
        condition = namespace.Condition()

        async def wait():
            async with condition:
                try:
                    await condition.wait()
                finally:
                    assert condition.locked()

        (waiting,) = await blocked(wait())
        await condition.acquire()
        waiting.cancel("go")
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        condition.release()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not condition.locked()

    run(main())


# --- privates that programs and tests use -----------------------------------------------------------------------------------------------


def test_those_who_wait_can_be_seen(namespace, run):
    async def main():
        lock, event = namespace.Lock(), namespace.Event()
        assert not lock._waiters and not event._waiters
        await lock.acquire()
        tasks = await blocked(lock.acquire(), lock.acquire(), event.wait())
        assert (len(lock._waiters), len(event._waiters)) == (2, 1)
        assert type(lock._waiters) is type(event._waiters) is collections.deque
        lock.release()
        event.set()
        await tasks[2]
        await tasks[0]
        lock.release()
        await tasks[1]

    run(main())


def test_the_end_of_a_task_group_finds_every_waiter(namespace, run):
    """Timeouts and cancellation reach those who wait, and leave the lock to others."""

    async def main():
        lock = namespace.Lock()
        async with lock:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await lock.acquire()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(lock.acquire()) for _ in range(3)]
                await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
        assert not lock._waiters
        assert await asyncio.wait_for(lock.acquire(), 1)

    run(main())


# --- who has a lock -------------------------------------------------------------------------------------------------------------------


async def take_turns(lock, task_count=5, turns=20):
    """Tasks that take the lock one after the other, and find each time that it knows by whom."""
    found = []

    async def one():
        for turn in range(turns):
            if turn % 2:
                await lock.acquire()
            else:
                await lock.__aenter__()
            found.append(_ferrio.lock_holder(lock)[0] is asyncio.current_task())
            await asyncio.sleep(0)
            found.append(_ferrio.lock_holder(lock)[0] is asyncio.current_task())
            lock.release()
            found.append(_ferrio.lock_holder(lock) is None)
            if turn % 3:
                await asyncio.sleep(0)

    await asyncio.gather(*(asyncio.create_task(one()) for _ in range(task_count)))
    return len(found) == 3 * task_count * turns and all(found)


class Derived(ferrio.EventLoop):
    pass


class OwnTask(asyncio.Task):
    pass


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("new_loop", [ferrio.EventLoop, Derived, asyncio.SelectorEventLoop])
def test_a_lock_knows_who_has_it(new_loop, debug):
    with asyncio.Runner(loop_factory=new_loop, debug=debug) as runner:
        assert runner.run(take_turns(ferrio.Lock()))


def test_a_lock_knows_which_task_of_a_users_class_has_it():
    async def main():
        asyncio.get_running_loop().set_task_factory(lambda loop, coro, **keywords: OwnTask(coro, loop=loop, **keywords))
        return await take_turns(ferrio.Lock())

    assert ferrio.run(main())


def test_locks_of_loops_in_many_threads_know_who_has_them():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        switching = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            results = [pool.submit(lambda: ferrio.run(take_turns(ferrio.Lock(), 5, 200))) for _ in range(4)]
            assert all(result.result() for result in results)
        finally:
            sys.setswitchinterval(switching)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
@pytest.mark.parametrize("directly", [False, True])
def test_a_lock_knows_which_eager_task_has_it(directly):
    lock = ferrio.Lock()

    def holder():
        return _ferrio.lock_holder(lock)[0]

    async def inner():
        await lock.acquire()
        eagerly = holder() is asyncio.current_task()
        await asyncio.sleep(0)
        lock.release()
        await lock.acquire()
        later = holder() is asyncio.current_task()
        lock.release()
        return eagerly, later

    async def main():
        loop = asyncio.get_running_loop()
        if not directly:
            loop.set_task_factory(asyncio.eager_task_factory)
        await lock.acquire()
        own = [holder() is asyncio.current_task()]
        lock.release()
        task = asyncio.Task(inner(), loop=loop, eager_start=True) if directly else asyncio.create_task(inner())
        own.append(holder() is task)
        results = await task
        await lock.acquire()
        return [*own, *results, holder() is asyncio.current_task()]

    assert all(ferrio.run(main()))


def test_a_lock_does_not_keep_the_task_that_has_it():
    async def main():
        lock = ferrio.Lock()

        async def fails():
            await lock.acquire()
            raise ValueError("with the lock in its hands")

        told = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))
        task = asyncio.create_task(fails(), name="failing")
        await asyncio.wait([task])
        reference = weakref.ref(task)
        del task
        await asyncio.sleep(0)
        gc.collect()
        assert reference() is None and told == ["Task exception was never retrieved"]
        assert _ferrio.lock_holder(lock) == (None, "failing", fails.__qualname__)
        lock.release()
        assert _ferrio.lock_holder(lock) is None

    ferrio.run(main())


def test_a_lock_that_no_task_has_taken_says_so():
    async def main():
        lock = ferrio.Lock()

        def outside():
            with contextlib.suppress(StopIteration):
                lock.acquire().send(None)
            holders.append(_ferrio.lock_holder(lock))

        holders = []
        asyncio.get_running_loop().call_soon(outside)
        await asyncio.sleep(0)
        lock.release()
        await asyncio.to_thread(outside)
        lock._locked = True
        holders.append(_ferrio.lock_holder(lock))
        return holders

    assert ferrio.run(main()) == [(None, None, None), (None, None, None), None]
