"""Who waits for what: the tasks of a loop, and who awaits them.

Since CPython 3.14 futures know who awaits them. Before, it is found out from what a future will call when it is done:
a task's wake-up, a group, or what belongs to ``gather`` and its kin and leads on to the future that their caller awaits.
"""

import asyncio
import contextlib
import functools
import gc
import inspect
import os
import sys
import types
from dataclasses import dataclass, field
from traceback import FrameSummary

_KNOWS_EDGES = sys.version_info >= (3, 14)


@dataclass(frozen=True)
class TaskStats:
    """A task at one moment."""

    task: asyncio.Task = field(repr=False)
    #: The task's name and its coroutine's.
    name: str
    coroutine: str
    #: "running", "ready" (for its next step) or "waiting".
    state: str
    #: The line at which the program's own innermost coroutine stands, a ``traceback.FrameSummary``; None if it has not begun.
    where: FrameSummary | None
    #: The future or native awaitable that it waits for; None unless it is waiting.
    waits_for: object = field(repr=False)
    #: The tasks that wait for it.
    awaited_by: tuple[asyncio.Task, ...] = field(repr=False)


def tasks(loop=None):
    """The tasks of a loop that are not done, as `TaskStats`; of the running one if none is given.

    RuntimeError if no loop is running. From another thread than the loop's it may be a picture of several moments.
    """
    if loop is None:
        loop = asyncio.get_running_loop()
    current = asyncio.current_task(loop)
    return [_stats(task, task is current) for task in asyncio.all_tasks(loop)]


def awaited_by(future):
    """The tasks that wait for a task or future, be it through ``gather``, ``wait``, ``shield``, ``as_completed`` or a group.

    TypeError for what is no future.
    """
    _check(future)
    found, seen, front = {}, {id(future)}, [future]
    while front:
        for waiter in _waiters(front.pop()):
            if id(waiter) not in seen:
                seen.add(id(waiter))
                if isinstance(waiter, asyncio.Task):
                    found[waiter] = None
                else:
                    front.append(waiter)
    return tuple(found)


def awaited_by_chain(future):
    """Who waits for it, who waits for that one, and so on, as tasks from the inside out; of several, the first.

    TypeError for what is no future.
    """
    chain, waiters = [], awaited_by(future)
    while waiters and waiters[0] not in chain and waiters[0] is not future:
        chain.append(waiters[0])
        waiters = awaited_by(chain[-1])
    return chain


def name_of(task):
    """``task 'Task-3' (fetch)``"""
    return f"task {task.get_name()!r} ({_coroutine_name(task)})"


def _check(future):
    if not asyncio.isfuture(future):
        raise TypeError(f"a Task or Future is expected, got {future!r}")


def _stats(task, is_current):
    waits_for = getattr(task, "_fut_waiter", None)
    if waits_for is not None and waits_for.done():
        waits_for = None
    state = "running" if is_current else "ready" if waits_for is None else "waiting"
    return TaskStats(task, task.get_name(), _coroutine_name(task), state, where_of(task), waits_for, awaited_by(task))


def _coroutine_name(task):
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", None) or type(coroutine).__name__


#: Folders whose frames stand between a program and what it waits for.
_NOT_THE_PROGRAMS = tuple(
    os.path.join(os.path.dirname(os.path.abspath(file)), "") for file in (asyncio.__file__, os.path.dirname(__file__))
)


def where_of(task):
    """The line at which the innermost coroutine stands that is neither asyncio's nor ferrio's, as a
    ``traceback.FrameSummary`` without its text; None if the task has not begun."""
    innermost, inner = None, task.get_coro()
    if inspect.iscoroutine(inner) and inspect.getcoroutinestate(inner) == inspect.CORO_CREATED:
        return None
    while inner is not None:
        for kind, link in (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await")):
            if hasattr(inner, kind):
                frame, inner = getattr(inner, kind), getattr(inner, link)
                break
        else:
            break
        if frame is not None and (innermost is None or not frame.f_code.co_filename.startswith(_NOT_THE_PROGRAMS)):
            innermost = frame
    if innermost is None:
        return None
    code = innermost.f_code
    return FrameSummary(code.co_filename, innermost.f_lineno, code.co_name, lookup_line=False)


def _waiters(future):
    if _KNOWS_EDGES:
        return tuple(getattr(future, "_asyncio_awaited_by", None) or ())
    callbacks = getattr(future, "_callbacks", None) or ()
    return [waiter for callback, _ in callbacks for waiter in _behind(callback) if waiter is not future]


def _behind(callback):
    """The futures and tasks that are done, or go on, because this is called."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return [owner]
    if isinstance(owner, asyncio.TaskGroup):
        return [owner._parent_task] if owner._parent_task is not None else []
    if isinstance(owner, getattr(asyncio.tasks, "_AsCompletedIterator", ())):
        return _futures([owner._done])
    if isinstance(callback, functools.partial):
        return [*_behind(callback.func), *_futures(callback.args)]
    if isinstance(callback, types.FunctionType):
        return _futures(_contents(callback.__closure__ or ()))
    if type(owner).__module__ == "ferrio._ferrio":
        return _futures(gc.get_referents(owner))
    return []


def _contents(cells):
    for cell in cells:
        # One that is not set has none.
        with contextlib.suppress(ValueError):
            yield cell.cell_contents


def _futures(objects):
    found = []
    for one in objects:
        if isinstance(one, asyncio.Queue):
            # as_completed() has what is done put into a queue, of which its caller takes it.
            found += one._getters
        elif asyncio.isfuture(one) and not isinstance(one, asyncio.Task) and not one.done():
            found.append(one)
    return found
