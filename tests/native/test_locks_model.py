"""Random programs on asyncio's locks, see playing.py."""

import asyncio

from hypothesis import strategies as st

from tests.native.playing import call, compare, programs, start

SMALL = st.integers(0, 3)


def waiting(lock):
    return [(waiter.done(), waiter.cancelled()) for waiter in lock._waiters or ()]


def look_at_lock(lock):
    return repr(lock).partition(" [")[2], lock.locked(), waiting(lock)


def with_holders(base):
    """A class whose instances can be held over a few turns, as a program does."""

    class Held(base):
        async def hold(self, turns):
            async with self:
                for _ in range(turns):
                    await asyncio.sleep(0)

    return Held


lock_programs = programs(
    start("acquire"), start("hold", SMALL), start("hold", SMALL), call("release"), call("release"), call("locked")
)

test_lock = compare(lambda namespace, _: with_holders(namespace.Lock)(), look_at_lock, program=lock_programs)
test_semaphore = compare(
    lambda namespace, value: with_holders(namespace.Semaphore)(value),
    lambda semaphore: (look_at_lock(semaphore), semaphore._value),
    program=lock_programs,
    setting=SMALL,
)
test_bounded_semaphore = compare(
    lambda namespace, value: with_holders(namespace.BoundedSemaphore)(value),
    lambda semaphore: (look_at_lock(semaphore), semaphore._value),
    program=lock_programs,
    setting=SMALL,
)
test_event = compare(
    lambda namespace, _: namespace.Event(),
    lambda event: (repr(event).partition(" [")[2], event.is_set(), waiting(event)),
    program=programs(start("wait"), start("wait"), call("set"), call("clear"), call("is_set")),
)


class Foreign:
    """A lock of somebody's own, which fails now and then."""

    def __init__(self, namespace):
        self.inner = namespace.Lock()
        self.calls = 0

    def locked(self):
        return self.inner.locked()

    def release(self):
        self.inner.release()

    async def acquire(self):
        self.calls += 1
        if self.calls % 5 == 0:
            await asyncio.sleep(0)
            raise OSError("the fifth time")
        return await self.inner.acquire()


def make_condition(namespace, kind):
    class Held(namespace.Condition):
        value = 0

        async def wait_within(self):
            async with self:
                return await self.wait()

        async def wait_for_value(self, value):
            async with self:
                return await self.wait_for(lambda: self.value >= value and (self.value, value))

        async def say(self, number):
            async with self:
                self.value += 1
                self.notify(number)
                await asyncio.sleep(0)

        async def say_all(self):
            async with self:
                self.notify_all()

        async def keep(self, turns):
            async with self:
                for _ in range(turns):
                    await asyncio.sleep(0)

    lock = {"stock": asyncio.Lock, "same": namespace.Lock, "foreign": lambda: Foreign(namespace)}.get(kind)
    return Held(lock and lock())


test_condition = compare(
    make_condition,
    lambda condition: (repr(condition).partition(" [")[2], condition.locked(), waiting(condition)),
    program=programs(
        start("wait_within"),
        start("wait_within"),
        start("wait_for_value", SMALL),
        start("say", SMALL),
        start("say_all"),
        start("keep", SMALL),
        start("wait"),
        call("notify", SMALL),
        call("release"),
    ),
    setting=st.sampled_from(["own", "same", "stock", "foreign"]),
)


def make_barrier(namespace, parties):
    class Entered(namespace.Barrier):
        async def enter(self):
            async with self as place:
                await asyncio.sleep(0)
                return place

    return Entered(parties)


test_barrier = compare(
    make_barrier,
    lambda barrier: (
        repr(barrier).partition(" [")[2],
        barrier.n_waiting,
        barrier.broken,
        barrier._count,
        waiting(barrier._cond),
    ),
    program=programs(start("wait"), start("wait"), start("enter"), start("reset"), start("abort")),
    setting=st.integers(1, 3),
)
