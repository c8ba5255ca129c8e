"""The classes that native handles give as their ``__class__``, so that ``isinstance`` finds asyncio's.

A native handle keeps its arguments inline and has no room for the slots of ``asyncio.Handle``.
"""

import asyncio


class Handle(asyncio.Handle):
    """A scheduled callback, as ``loop.call_soon()`` returns it."""

    __slots__ = ()


class ThreadSafeHandle(getattr(asyncio.events, "_ThreadSafeHandle", asyncio.Handle)):
    """A scheduled callback, as ``loop.call_soon_threadsafe()`` returns it from 3.14 on."""

    __slots__ = ()


class TimerHandle(asyncio.TimerHandle):
    """A callback with a deadline, as ``loop.call_later()`` returns it."""

    __slots__ = ()
