"""asyncio's locks, native. What they do is in ``crates/ferrio-python/src/sync``; here are the classes that users see."""

import asyncio

from . import _ferrio
from ._native import Native, Stateful, stands_for

__all__ = ["BoundedSemaphore", "Event", "Lock", "Semaphore"]


@stands_for(asyncio.Event)
class Event(_ferrio.Event, Stateful, asyncio.Event, metaclass=Native):
    __slots__ = ()
    _state = ("_waiters", "_value", "_loop")

    async def wait(self):
        """Wait until the flag is set. Returns True."""
        if not self._value:
            await self._wait()
        return True


@stands_for(asyncio.Lock)
class Lock(_ferrio.Lock, Stateful, asyncio.Lock, metaclass=Native):
    __slots__ = ()
    _virtual = ("acquire", "release")
    _state = ("_waiters", "_locked", "_loop")

    async def acquire(self):
        """Wait until it is free, and take it. Returns True."""
        if not self._try_acquire():
            await self._wait()
        return True


@stands_for(asyncio.Semaphore)
class Semaphore(_ferrio.Semaphore, Stateful, asyncio.Semaphore, metaclass=Native):
    __slots__ = ()
    _virtual = ("acquire", "release", "locked")
    _state = ("_waiters", "_value", "_loop")

    async def acquire(self):
        """Take one, and wait before until there is one. Returns True."""
        if not self._try_acquire():
            await self._wait()
        return True


@stands_for(asyncio.BoundedSemaphore)
class BoundedSemaphore(Semaphore, asyncio.BoundedSemaphore):
    __slots__ = ()
    _state = (*Semaphore._state, "_bound_value")

    def __init__(self, value=1):
        super().__init__(value)
        self._bound_value = value
