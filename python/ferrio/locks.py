"""asyncio's locks, native. What they do is in ``crates/ferrio-python/src/sync``; here are the classes that users see."""

import asyncio

from . import _ferrio
from ._native import Native, stands_for

__all__ = ["Lock"]


@stands_for(asyncio.Lock)
class Lock(_ferrio.Lock, asyncio.Lock, metaclass=Native):
    __slots__ = ()

    async def acquire(self):
        """Wait until it is free, and take it. Returns True."""
        if not self._try_acquire():
            await self._wait()
        return True
