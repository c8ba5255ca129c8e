"""Callbacks: whose they are, and what they are called. Values: a short repr that runs nothing of the user's."""

import asyncio
import functools
import types

_OWN_MODULES = {"asyncio", "ferrio", "_asyncio", "concurrent"}

#: The class of what an async generator's aclose() returns.
GENERATORS_END = "async_generator_athrow"

#: Native classes of no module, whose instances are asyncio's own callbacks.
_OWN_CLASSES = {"WakeOnCall"}

#: asyncio's classes whose public methods people use as callbacks: `event.set`, `task.cancel`.
_PUBLIC = (
    asyncio.Event,
    asyncio.Lock,
    asyncio.Queue,
    asyncio.Semaphore,
    asyncio.Condition,
    asyncio.Future,
    asyncio.AbstractEventLoop,
)

#: Who hears of the end of a task by which callback.
_TOLD = {
    "Gathering._done_callback": "gather",
    "gather.<locals>._done_callback": "gather",
    "_run_until_complete_cb": "asyncio.run",
    "_run_until_complete_callback": "asyncio.run",
    "TaskGroup._on_task_done": "the task group",
    "_wait.<locals>._on_completion": "asyncio.wait",
    "_release_waiter": "wait_for",
    "_AsCompletedIterator._handle_completion": "as_completed",
    "as_completed.<locals>._on_completion": "as_completed",
    "shield.<locals>._inner_done_callback": "shield",
    "Waiting._on_completion": "asyncio.wait",
    "Completing._handle_completion": "as_completed",
    "Shield._inner_done_callback": "shield",
}


def _innermost(callback):
    while isinstance(callback, functools.partial):
        callback = callback.func
    return callback


def is_inner(callback):
    """Whether a callback is asyncio's own, or ferrio's."""
    callback = _innermost(callback)
    owner = getattr(callback, "__self__", None)
    name = getattr(callback, "__name__", "")
    if owner is not None and not isinstance(owner, types.ModuleType):
        if isinstance(owner, _PUBLIC):
            return name.startswith("_") or "wakeup" in name or type(callback).__name__ == "TaskStepMethWrapper"
        module = type(owner).__module__
    else:
        module = getattr(callback, "__module__", None) or type(callback).__module__
        if type(callback).__name__ in _OWN_CLASSES:
            return True
    return (module or "").partition(".")[0] in _OWN_MODULES


def name_of(callback):
    """What a callback is called where it was written."""
    callback = _innermost(callback)
    return getattr(callback, "__qualname__", None) or type(callback).__qualname__


def short_name(callback):
    """The same without what it was defined in."""
    return name_of(callback).rpartition("<locals>.")[2]


def who_is_told(callback):
    """Whom a task's callback tells of its end, in a word; None if nobody wants to know."""
    word = _TOLD.get(name_of(callback))
    if word is None and not is_inner(callback):
        word = f"{short_name(callback)}()"
    return word


def short(value, depth=2):
    """A short repr of a value."""
    kind = type(value)
    if kind in {int, float, bool, type(None), complex}:
        return repr(value)
    if kind in {str, bytes}:
        return repr(value) if len(value) <= 40 else repr(value[:37]) + "…"
    if kind in {list, tuple, set, frozenset, dict} and depth:
        opening, closing = {list: "[]", tuple: "()"}.get(kind, "{}")
        parts = [
            f"{short(item, depth - 1)}: {short(value[item], depth - 1)}" if kind is dict else short(item, depth - 1)
            for item in list(value)[:5]
        ]
        if len(value) > 5:
            parts.append("…")
        comma = "," if kind is tuple and len(value) == 1 else ""
        return f"{opening}{', '.join(parts)}{comma}{closing}"
    if isinstance(value, BaseException):
        arguments = ", ".join(short(argument, depth - 1) for argument in value.args[:3]) if depth else "…"
        return f"{kind.__name__}({arguments})"
    return f"a {kind.__name__}"


def outcome(task):
    """How a task has ended, without that counting as having asked for it."""
    if task.cancelled():
        return "cancelled", None
    if task._exception is not None:
        return "raised", short(task._exception)
    return "returned", short(task._result)
