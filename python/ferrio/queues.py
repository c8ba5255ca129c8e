"""asyncio's queues, native. What they do is in ``crates/ferrio-python/src/sync/queue.rs``; here are the classes that users see."""

import asyncio
from asyncio import QueueEmpty, QueueFull

from . import _ferrio
from ._ferrio import NOTHING
from ._native import Native, Stateful, stands_for

__all__ = ["LifoQueue", "PriorityQueue", "Queue", "QueueEmpty", "QueueFull", "QueueShutDown"]

# asyncio has shutdown() since 3.13.
if hasattr(asyncio, "QueueShutDown"):
    QueueShutDown = asyncio.QueueShutDown
else:

    class QueueShutDown(Exception):
        """Raised by put() after shutdown(), and by get() once nothing is left."""


@stands_for(asyncio.Queue)
class Queue(_ferrio.Queue, Stateful, asyncio.Queue, metaclass=Native):
    __slots__ = ()
    _virtual = (
        "_init", "_put", "_get", "_wakeup_next", "qsize", "empty", "full", "put_nowait", "get_nowait",
    )  # fmt: skip
    _kept = ("_maxsize", "_getters", "_putters", "_unfinished_tasks", "_finished", "_queue", "_is_shutdown", "_loop")
    _order = "oldest"

    async def put(self, item):
        """Put an item in, and wait before until there is room.

        :raises QueueShutDown: after shutdown().
        """
        if not self._try_put(item):
            await self._wait_to_put()
            return self.put_nowait(item)

    async def get(self):
        """Take the next item out, and wait before until there is one.

        :raises QueueShutDown: if there is none after shutdown().
        """
        item = self._try_get()
        if item is NOTHING:
            await self._wait_to_get()
            return self.get_nowait()
        return item

    if not hasattr(asyncio.Queue, "shutdown"):

        def shutdown(self, immediate=False):
            """From here on put() raises QueueShutDown, and get(), too, once nothing is left; whoever waits is woken for that.

            :param immediate: drop what is left.
            """
            self._is_shutdown = True
            if immediate:
                while not self.empty():
                    self._get()
                    self._unfinished_tasks = max(0, self._unfinished_tasks - 1)
                if not self._unfinished_tasks:
                    self._finished.set()
            for waiters in (self._getters, self._putters):
                while waiters:
                    self._wakeup_next(waiters)

        def _format(self):
            return super()._format() + (" shutdown" if self._is_shutdown else "")


@stands_for(asyncio.LifoQueue)
class LifoQueue(Queue, asyncio.LifoQueue):
    __slots__ = ()
    _order = "newest"


@stands_for(asyncio.PriorityQueue)
class PriorityQueue(Queue, asyncio.PriorityQueue):
    __slots__ = ()
    _order = "least"
