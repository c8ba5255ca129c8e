"""``install()`` and ``uninstall()``: the only place of ferrio that changes asyncio, and only when asked."""

import asyncio
import importlib
import sys
import warnings

from .event_loop import new_event_loop

#: The modules whose ``__all__`` are ferrio's own versions of what asyncio's modules of these names have.
NATIVE = ("locks", "queues", "streams", "subprocess", "taskgroups", "tasks", "timeouts")

_undo = []


def install(*, loop_only=False):
    """Have asyncio be ferrio from here on, in the whole process: ``uninstall()`` undoes it.

    asyncio creates ferrio's loops, and ``asyncio.Queue``, ``asyncio.Lock``, ``asyncio.gather``, … are ferrio's; modules that have
    taken such a name from asyncio before keep what they have, which works with all else.

    :param loop_only: change nothing but the loop.
    """
    undo = []
    with warnings.catch_warnings():
        # Policies are deprecated since 3.14, and up to 3.15 the only process-wide way.
        warnings.simplefilter("ignore", DeprecationWarning)
        if hasattr(asyncio, "set_event_loop_policy"):
            undo.append(_install_policy())
        else:
            undo.append(_replace(asyncio.events.new_event_loop, new_event_loop))
    if not loop_only:
        undo += install_natives()
    _undo.append(undo)


def uninstall():
    """Undo the last install(); nothing happens if there was none."""
    if _undo:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            for step in reversed(_undo.pop()):
                step()


def install_natives():
    """The part of install() that is not the loop. Returns what undoes it."""
    return [_replace(original, native) for original, native in natives()]


def natives():
    """Pairs: what asyncio has, and what ferrio has instead."""
    for name in NATIVE:
        ours, theirs = importlib.import_module(f"ferrio.{name}"), importlib.import_module(f"asyncio.{name}")
        for native in map(ours.__dict__.get, ours.__all__):
            original = getattr(native, "__dict__", {}).get("_stands_for") or getattr(theirs, native.__name__, native)
            if original is not native:
                yield original, native


def _install_policy():
    from .policy import EventLoopPolicy

    former = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(EventLoopPolicy())
    return lambda: asyncio.set_event_loop_policy(former)


def _replace(original, replacement):
    """Put ``replacement`` wherever one of asyncio's modules has ``original`` under that very name."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "asyncio"]
    places = [module.__dict__ for module in modules if module.__dict__.get(original.__name__) is original]
    for place in places:
        place[original.__name__] = replacement

    def undo():
        for place in places:
            place[original.__name__] = original

    return undo
