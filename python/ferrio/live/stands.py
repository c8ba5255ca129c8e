"""Where a task stands: its lines, what it has in its hands, inside of which locks it is, and who else has what it awaits.

Nothing of the program's is called: of its objects, which may be proxies for others, only types are asked.
"""

import asyncio
import collections
import gc
import itertools
import sys
import types
import weakref

from ..explain import places
from ..explain.waits import METHODS, chain, entered, frame_of

#: How deep a chain of coroutines is looked at.
_DEEP = 30

#: What marks a class that was made by a ``class`` statement; how many attributes are looked at.
_OF_PYTHON, _ATTRIBUTES = 1 << 9, 50

#: Whatever is of these may hold very many objects, which would all be looked at.
_LARGE = (asyncio.AbstractEventLoop, dict, list, tuple, set, frozenset, collections.deque)

LOCKS = (asyncio.Lock, asyncio.Semaphore, asyncio.Condition)


def is_main(task):
    """Whether it is the one that run_until_complete() runs."""
    callbacks = getattr(task, "_callbacks", None) or ()
    return any(getattr(callback, "__name__", "") == "_run_until_complete_cb" for callback, *_ in callbacks)


def called(task, whose):
    """The name of a task and that of its coroutine."""
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", None) or type(coroutine).__name__
    return {whose: task.get_name()[:64], "coro": name[:100]}


def links(task):
    """Its coroutine, what that awaits, what that awaits, …"""
    return itertools.islice(chain(task.get_coro()), _DEEP)


def all_entered(task):
    """The objects inside of whose ``async with`` a task is, or an async generator that it has in its hands."""
    for link in links(task):
        yield from entered(link)
        for held in gc.get_referents(link):
            if type(held) is types.AsyncGeneratorType:
                yield from entered(held)


def stack(task):
    """The user's lines at which a task stands, outermost first."""
    lines = [_line(frame) for frame in map(frame_of, links(task)) if frame is not None]
    return [line for line in lines if places.owner(line[0]) in {"user", "package"}] or lines[:1]


def _line(frame):
    code = frame.f_code
    return [code.co_filename, frame.f_lineno or code.co_firstlineno, code.co_qualname]


def doors(task):
    """The ids of the objects inside of whose ``async with`` a task is, and of those that it is about to enter."""
    inside, entering = set(), set()
    for link in links(task):
        entering.add(id(getattr(link, "_subject", None)))
        if getattr(link, "__qualname__", "") in {"Lock.acquire", "Semaphore.acquire"}:
            # asyncio's own: what it is about is among its variables.
            entering |= {id(each) for each in gc.get_referents(link) if issubclass(type(each), LOCKS)}
        inside |= set(map(id, entered(link)))
    return inside - entering, entering - {id(None)}


def held(task, classes):
    """What a task's coroutines have in their hands of these classes: their variables, and the attributes of their ``self``."""
    for link in links(task):
        frame = frame_of(link)
        if frame is None or places.owner(frame.f_code.co_filename) not in {"user", "package"}:
            continue
        for one in gc.get_referents(link):
            if type(one) is types.CellType:
                one = next(iter(gc.get_referents(one)), None)
            yield from _among(one, classes)


def _among(one, classes):
    """The object, if it is of one of the classes, or what is among its attributes."""
    kind = type(one)
    if issubclass(kind, classes):
        return [one]
    if not kind.__flags__ & _OF_PYTHON or issubclass(kind, (type, *_LARGE)):
        return []
    inner = gc.get_referents(one)
    for attributes in [each for each in inner if type(each) is dict]:
        inner += list(attributes.values()) if len(attributes) < _ATTRIBUTES else []
    return [each for each in inner if issubclass(type(each), classes)] if len(inner) < 2 * _ATTRIBUTES else []


def others(reference, task, waits):
    """How many refer to an object besides the task that waits for it, and what its coroutines are made of."""
    subject = reference()
    if subject is None or task is None:
        return None
    own = waits[id(subject)]
    for link in links(task):
        code = getattr(link, "cr_code", None)
        is_asyncios = code is not None and places.owner(code.co_filename) == "asyncio"
        for held in gc.get_referents(link):
            if is_asyncios and type(held) is dict:
                # Its variables, as they were looked at a moment ago: up to 3.12 they stay with the frame.
                own += list(map(id, held.values())).count(id(subject))
            else:
                own += held is subject or (type(held) in METHODS and getattr(held, "__self__", None) is subject)
    held = link = None
    return sys.getrefcount(subject) - own - _NAMES


class _Probe:
    @staticmethod
    def get_coro():
        return None


#: How many references `others` itself has to what it counts: that differs between Pythons.
_NAMES = 0
_probe = asyncio.Future.__new__(asyncio.Future)
_NAMES = others(weakref.ref(_probe), _Probe, collections.Counter()) - 1
