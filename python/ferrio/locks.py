"""asyncio's locks, native. What they do is in ``crates/ferrio-python/src/sync``; here are the classes that users see."""

import asyncio

from . import _ferrio
from ._native import Native, Stateful, stands_for

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "Semaphore"]


@stands_for(asyncio.Event)
class Event(_ferrio.Event, Stateful, asyncio.Event, metaclass=Native):
    __slots__ = ()
    _kept = ("_waiters", "_value", "_loop")

    async def wait(self):
        """Wait until the flag is set. Returns True."""
        if not self._value:
            await self._wait()
        return True


@stands_for(asyncio.Lock)
class Lock(_ferrio.Lock, Stateful, asyncio.Lock, metaclass=Native):
    __slots__ = ()
    _virtual = ("acquire", "release")
    _kept = ("_waiters", "_locked", "_loop")

    async def acquire(self):
        """Wait until it is free, and take it. Returns True."""
        if not self._try_acquire():
            await self._wait()
        return True


@stands_for(asyncio.Semaphore)
class Semaphore(_ferrio.Semaphore, Stateful, asyncio.Semaphore, metaclass=Native):
    __slots__ = ()
    _virtual = ("acquire", "release", "locked")
    _kept = ("_waiters", "_value", "_loop")

    async def acquire(self):
        """Take one, and wait before until there is one. Returns True."""
        if not self._try_acquire():
            await self._wait()
        return True


@stands_for(asyncio.BoundedSemaphore)
class BoundedSemaphore(Semaphore, asyncio.BoundedSemaphore):
    __slots__ = ()
    _kept = (*Semaphore._kept, "_bound_value")

    def __init__(self, value=1):
        super().__init__(value)
        self._bound_value = value


@stands_for(asyncio.Condition)
class Condition(_ferrio.Condition, Stateful, asyncio.Condition, metaclass=Native):
    __slots__ = ()
    _kept = ("_lock", "_waiters", "_loop")

    def __init__(self, lock=None):
        super().__init__(Lock() if lock is None else lock)

    async def wait(self):
        """Give up the lock, wait to be notified and take it again. Returns True.

        :raises RuntimeError: if nobody has the lock.
        """
        await self._start_wait()
        return True


@stands_for(asyncio.Barrier)
class Barrier(_ferrio.Barrier, Stateful, asyncio.Barrier, metaclass=Native):
    __slots__ = ()
    _virtual = ("_block", "_release", "_wait", "_exit")
    _kept = ("_cond", "_parties", "_state", "_count")

    def __init__(self, parties):
        super().__init__(parties)
        self._cond = Condition()

    async def wait(self):
        """Wait until all have come. Returns the place in the order in which they came.

        :raises BrokenBarrierError: if the barrier is broken or is reset meanwhile.
        """
        return await self._start_wait()
