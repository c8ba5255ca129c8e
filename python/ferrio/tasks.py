"""asyncio's functions that make tasks and wait for them, native. What they do is in ``crates/ferrio-python/src/tasks``."""

import asyncio.tasks
import sys
import types
from asyncio import _get_running_loop, isfuture
from asyncio.coroutines import iscoroutine

# What is not ferrio's own here is asyncio's.
from asyncio.tasks import *
from inspect import isawaitable

from ._ferrio import (
    _begin_pause,
    _begin_waiting,
    _begun_timeout,
    _complete_into,
    create_task,
    ensure_future,
    gather,
    shield,
)  # fmt: skip
from .queues import Queue

__all__ = ["as_completed", "create_task", "ensure_future", "gather", "shield", "sleep", "wait", "wait_for"]

_as_completed = asyncio.tasks.as_completed
_cancel_and_wait = asyncio.tasks._cancel_and_wait
_sleep = asyncio.tasks.sleep
_wait_as_asyncio = asyncio.tasks.wait
_wait_for = asyncio.tasks.wait_for


@types.coroutine
def _one_turn():
    yield


async def sleep(delay, result=None):
    """Wait for ``delay`` seconds, or for one turn of the loop if that is 0 or less. Returns ``result``."""
    if delay <= 0:
        await _one_turn()
        return result
    pause = _begin_pause(delay)
    if pause is None:
        return await _sleep(delay, result)
    try:
        await pause
    except BaseException:
        pause.cancel()
        raise
    return result


async def wait(fs, *, timeout=None, return_when=ALL_COMPLETED):
    """Wait for futures, no longer than ``timeout`` seconds; None stands for no limit.

    Returns two sets: those that are done, and those that are not. ``return_when`` is ALL_COMPLETED, FIRST_COMPLETED or
    FIRST_EXCEPTION. Nothing is cancelled, and no TimeoutError raised.
    """
    waiting = _begin_waiting(fs, timeout, return_when)
    if waiting is None:
        return await _wait_as_asyncio(fs, timeout=timeout, return_when=return_when)
    return await _wait(waiting)


async def _wait(waiting):
    # asyncio waits in a function of this name, and a call graph shows it.
    try:
        await waiting.waiter
    except BaseException:
        waiting.end()
        raise
    return waiting.end()


if sys.version_info >= (3, 13):

    class _AsCompletedIterator(asyncio.tasks._AsCompletedIterator):
        """asyncio's own, except that futures come into its queue without a frame in Python each."""

        def __init__(self, aws, timeout):
            self._done = Queue()
            self._todo_left = _complete_into(self._done, aws, timeout)

    def as_completed(fs, *, timeout=None):
        """Wait for awaitables at the same time, and take them in the order in which they are done.

        ``async for`` gives futures that are done, a plain ``for`` coroutines that return the results. Both raise TimeoutError
        for what is not done after ``timeout`` seconds; None stands for no limit.
        """
        if isawaitable(fs) or _get_running_loop() is None:
            return _as_completed(fs, timeout=timeout)
        return _AsCompletedIterator(fs, timeout)

else:

    async def _next_of(done):
        future = await done.get()
        if future is None:
            raise TimeoutError
        return future.result()

    def as_completed(fs, *, timeout=None):
        """Wait for awaitables at the same time, and take their results in the order in which they are done.

        The iterator's coroutines return them, or raise TimeoutError for what is not done after ``timeout`` seconds; None
        stands for no limit.
        """
        if isfuture(fs) or iscoroutine(fs) or _get_running_loop() is None:
            yield from _as_completed(fs, timeout=timeout)
            return
        done = Queue()
        for _ in range(_complete_into(done, fs, timeout)):
            yield _next_of(done)


async def wait_for(fut, timeout):
    """Wait for a future or coroutine, but no longer than ``timeout`` seconds; None stands for no limit.

    Returns its result. When the time is over, or the wait is cancelled, it is cancelled (put it into ``shield()`` to
    prevent that), and TimeoutError is raised.
    """
    limit = _begun_timeout(timeout)
    if limit is None:
        if timeout is None or not timeout <= 0:
            # asyncio has something to say about it.
            return await _wait_for(fut, timeout)
        fut = ensure_future(fut)
        if fut.done():
            return fut.result()
        await _cancel_and_wait(fut)
        try:
            return fut.result()
        except asyncio.CancelledError as error:
            raise TimeoutError from error
    try:
        result = await fut
    except BaseException as error:
        await limit.__aexit__(type(error), error, error.__traceback__)
        raise
    if not limit._leave():
        # It has struck, and its task made nothing of it.
        await limit.__aexit__(None, None, None)
    return result


if sys.version_info < (3, 12):
    _limited = wait_for

    async def wait_for(fut, timeout):
        # Here what is awaited runs as a task of its own, and whoever waits goes on only when that is over.
        waiting = None
        if timeout is not None and timeout > 0:
            fut = ensure_future(fut)
            waiting = _begin_waiting((fut,), timeout, FIRST_COMPLETED)
        if waiting is None:
            return await _wait_for(fut, timeout)
        try:
            await waiting.waiter
        except asyncio.CancelledError:
            if fut.done():
                return fut.result()
            waiting.end()
            await _cancel_and_wait(fut, asyncio.get_running_loop())
            raise
        finally:
            waiting.end()
        if fut.done():
            return fut.result()
        await _cancel_and_wait(fut, asyncio.get_running_loop())
        try:
            return fut.result()
        except asyncio.CancelledError as error:
            raise TimeoutError from error

    wait_for.__doc__ = _limited.__doc__
