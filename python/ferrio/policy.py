"""Event loop policies: the process-wide way to choose a loop, where CPython still has it (up to 3.15)."""

import asyncio
import threading
import warnings

from .event_loop import EventLoop

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    _AbstractPolicy = asyncio.AbstractEventLoopPolicy


class EventLoopPolicy(_AbstractPolicy):
    """Makes ferrio's loop wherever asyncio asks the policy for a new one."""

    class _Local(threading.local):
        loop = None
        set_called = False

    def __init__(self):
        self._local = self._Local()
        self._watcher = None

    def new_event_loop(self):
        return EventLoop()

    def set_event_loop(self, loop):
        if loop is not None and not isinstance(loop, asyncio.AbstractEventLoop):
            raise TypeError(f"loop must be an instance of AbstractEventLoop or None, not '{type(loop).__name__}'")
        self._local.set_called = True
        self._local.loop = loop

    def get_event_loop(self):
        import sys

        local = self._local
        if (
            local.loop is None
            and not local.set_called
            and sys.version_info < (3, 14)
            and threading.current_thread() is threading.main_thread()
        ):
            if sys.version_info >= (3, 12):
                warnings.warn("There is no current event loop", DeprecationWarning, stacklevel=2)
            self.set_event_loop(self.new_event_loop())
        if local.loop is None:
            raise RuntimeError(f"There is no current event loop in thread {threading.current_thread().name!r}.")
        return local.loop

    # Child watchers (gone in 3.14): ferrio's loop watches its children by itself; the object is for who asks.

    def get_child_watcher(self):
        if self._watcher is None:
            self._watcher = asyncio.ThreadedChildWatcher()
        return self._watcher

    def set_child_watcher(self, watcher):
        self._watcher = watcher
