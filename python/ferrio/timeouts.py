"""asyncio's timeouts, native. What they do is in ``crates/ferrio-python/src/tasks``; here is the class that users see."""

import asyncio

from . import _ferrio
from ._ferrio import timeout, timeout_at
from ._native import Native, stands_for

__all__ = ["Timeout", "timeout", "timeout_at"]


@_ferrio.Timeout._made_by_functions
@stands_for(asyncio.Timeout)
class Timeout(_ferrio.Timeout, asyncio.Timeout, metaclass=Native):
    __slots__ = ()

    async def __aenter__(self):
        if not self._enter():
            # asyncio says why.
            await super().__aenter__()
        return self
