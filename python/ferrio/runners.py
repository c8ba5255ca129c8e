"""``run``, ``Runner`` and ``get_event_loop``: asyncio's, with ferrio's loop where asyncio would make its own."""

import asyncio
import sys
import threading

from ._helpers import warn_outside_asyncio
from .event_loop import new_event_loop

__all__ = ["Runner", "get_event_loop", "run"]


class Runner(asyncio.Runner):
    """``asyncio.Runner``, which makes ferrio's loop unless it is given a ``loop_factory``."""

    def __init__(self, *, debug=None, loop_factory=None):
        super().__init__(debug=debug, loop_factory=loop_factory or new_event_loop)


def run(main, *, debug=None, loop_factory=None):
    """Run a coroutine on a new ferrio loop, as ``asyncio.run`` does; returns its result.

    :raises RuntimeError: if a loop runs in this thread already.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("ferrio.run() cannot be called from a running event loop")
    with Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)


def get_event_loop():
    """The running loop, or the one that was set in this thread.

    Where asyncio would make one (before 3.14: in the main thread, if none was ever set), it is ferrio's.

    :raises RuntimeError: if there is none.
    """
    if sys.version_info < (3, 14) and asyncio._get_running_loop() is None:
        policy = asyncio.get_event_loop_policy()
        if isinstance(policy, asyncio.DefaultEventLoopPolicy) and _would_make_one(policy._local):
            if sys.version_info >= (3, 12):
                warn_outside_asyncio("There is no current event loop")
            policy.set_event_loop(new_event_loop())
    return asyncio.get_event_loop()


def _would_make_one(local):
    in_main_thread = threading.current_thread() is threading.main_thread()
    return in_main_thread and local._loop is None and not local._set_called
