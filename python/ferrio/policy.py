"""``EventLoopPolicy``: the process-wide way to choose a loop, where CPython still has it (up to 3.15)."""

import asyncio
import sys
import threading
import warnings

from ._helpers import warn_outside_asyncio
from .event_loop import new_event_loop

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    _AbstractPolicy = asyncio.AbstractEventLoopPolicy


class EventLoopPolicy(_AbstractPolicy):
    """Makes ferrio's loop wherever asyncio asks the policy for a new one."""

    # With asyncio's names: in a forked child asyncio puts one of its own into its place.
    class _Local(threading.local):
        _loop = None
        _set_called = False

    def __init__(self):
        self._local = self._Local()
        self._watcher = None

    def new_event_loop(self):
        """A new loop; set_event_loop() makes it the current one."""
        return new_event_loop()

    def set_event_loop(self, loop):
        """Make ``loop`` the current one of this thread; None for no loop."""
        if loop is not None and not isinstance(loop, asyncio.AbstractEventLoop):
            raise TypeError(f"loop must be an instance of AbstractEventLoop or None, not '{type(loop).__name__}'")
        self._local._set_called = True
        self._local._loop = loop

    def get_event_loop(self):
        """The loop that was set in this thread. Before 3.14 the main thread gets a new one if none ever was."""
        if self._local._loop is None and self._creates_on_demand():
            if sys.version_info >= (3, 12):
                warn_outside_asyncio("There is no current event loop")
            self.set_event_loop(self.new_event_loop())
        if self._local._loop is None:
            raise RuntimeError(f"There is no current event loop in thread {threading.current_thread().name!r}.")
        return self._local._loop

    def _creates_on_demand(self):
        return (
            sys.version_info < (3, 14)
            and not self._local._set_called
            and threading.current_thread() is threading.main_thread()
        )

    if sys.version_info < (3, 14):
        # ferrio's loop watches its children by itself; a watcher is only for programs that ask for one.

        def get_child_watcher(self):
            """asyncio's watcher of child processes, for programs that use it directly."""
            if sys.version_info >= (3, 12):
                warn_outside_asyncio("'get_child_watcher' is deprecated as of Python 3.12")
            if self._watcher is None:
                self._watcher = asyncio.ThreadedChildWatcher()
            return self._watcher

        def set_child_watcher(self, watcher):
            """What get_child_watcher() returns from here on."""
            if sys.version_info >= (3, 12):
                warn_outside_asyncio("'set_child_watcher' is deprecated as of Python 3.12")
            self._watcher = watcher
