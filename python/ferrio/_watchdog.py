"""Slow steps, told while they last: one thread per process, which is there only if somebody wants to know.

It sleeps while all loops of the process do, and looks at their step counters while one runs: a step that is still the same
after so long blocks the loop. What the loop itself pays for that is one load each time it wakes up. In debug mode asyncio's
own message stands, and this says nothing.
"""

import asyncio
import atexit
import contextlib
import dataclasses
import logging
import math
import os
import sys
import threading
import time
import traceback
import weakref
from dataclasses import dataclass

from . import _ferrio

logger = logging.getLogger("asyncio")

#: The looks at the loops, in seconds apart: a quarter of the shortest threshold, within these.
_SHORTEST, _LONGEST = 0.002, 0.25

_HOME = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
#: Files whose frames stand between the program and its own code.
_FRAMES = (_HOME, os.path.join(os.path.dirname(os.path.abspath(asyncio.__file__)), ""))


@dataclass(frozen=True)
class SlowStep:
    """A step that blocks its loop, or has done so."""

    #: The loop.
    loop: asyncio.AbstractEventLoop
    #: The task whose step it is; None for a callback.
    task: "asyncio.Task | None"
    #: Seconds so far, or in all, give or take a quarter of the threshold.
    seconds: float
    #: Where the loop's thread was when it was seen first: lines as `traceback.format_stack()` gives them.
    stack: list[str]
    #: Whether it is over.
    finished: bool


class _Watched:
    """One loop. It is not kept alive."""

    def __init__(self, loop, threshold):
        self.loop = weakref.ref(loop)
        self.threshold = threshold  # for the log; infinite for nobody
        self.step = -1
        #: When that step was first seen, and so, by a look, too late; its end is seen too late as well.
        self.since = 0.0
        self.blocked = {}  # listener → SlowStep that it was told of


class _Watchdog:
    def __init__(self):
        self._lock = threading.Lock()
        self._watched = weakref.WeakKeyDictionary()
        self._listeners = {}  # object → (callback, threshold)
        self._bell = threading.Event()
        self._thread = None
        self._ending = False

    # --- what is watched ---------------------------------------------------------------------------------------------

    def adopt(self, loop):
        """A new loop: watched if all are to be."""
        wish = _from_environment()
        if wish is not None or self._listeners:
            self.watch(loop, math.inf if wish is None else wish)

    def watch(self, loop, threshold):
        """Log steps of this loop that take so many seconds or longer."""
        with self._lock:
            known = self._watched.get(loop)
            if known is None:
                self._watched[loop] = _Watched(loop, threshold)
            else:
                known.threshold = threshold
            self._start()

    def listen(self, callback, threshold, loops):
        """Have the callback called with a SlowStep. Returns what forget() wants."""
        key = object()
        with self._lock:
            self._listeners[key] = callback, threshold
            for loop in loops:
                if loop not in self._watched:
                    self._watched[loop] = _Watched(loop, math.inf)
            self._start()
        return key

    def forget(self, key):
        with self._lock:
            self._listeners.pop(key, None)

    # --- the thread --------------------------------------------------------------------------------------------------

    def _tick(self):
        """Seconds to the next look; None if there is nothing to look at."""
        with self._lock:
            wishes = [watched.threshold for watched in self._watched.values()]
            if self._watched:
                wishes += [threshold for _, threshold in self._listeners.values()]
        shortest = min(wishes, default=math.inf)
        return None if shortest == math.inf else min(max(shortest / 4, _SHORTEST), _LONGEST)

    def _start(self):
        self._bell.set()
        if self._thread is None and not self._ending:
            self._thread = threading.Thread(target=self._run, name="ferrio-watchdog", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                # The interpreter is ending, or there are too many threads: the program goes on unwatched.
                self._thread = None
        else:
            _ferrio.unpark()

    def _run(self):
        while not self._ending:
            self._bell.clear()
            tick = self._tick()
            if tick is None:
                with self._lock:
                    if not self._bell.is_set():
                        self._thread = None
                        return
                continue
            if not self._look():
                # All loops sleep, or none runs.
                _ferrio.park()
            self._bell.wait(tick)

    def stop(self):
        """The interpreter ends."""
        self._ending = True
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        self._bell.set()
        for _ in range(100):
            # It may have been about to park.
            _ferrio.unpark()
            thread.join(0.01)
            if not thread.is_alive():
                return

    def after_fork(self):
        """In a child: the thread is not there, and its locks may be held for ever. Loops that the child makes, or sets a
        threshold of, are watched."""
        listeners = self._listeners
        self.__init__()
        self._listeners = listeners

    # --- looking -----------------------------------------------------------------------------------------------------

    def _look(self):
        """Look at all loops once. Returns whether one is in a turn."""
        with self._lock:
            watched, listeners = list(self._watched.values()), list(self._listeners.items())
        return any([self._look_at(one, listeners) for one in watched])

    def _look_at(self, watched, listeners):
        loop = watched.loop()
        if loop is None or loop.is_closed():
            return False
        now = time.monotonic()
        running, step = loop._pulse()
        if not running or step != watched.step:
            for key, told in watched.blocked.items():
                self._tell(key, listeners, _later(told, now - watched.since, finished=True))
            watched.blocked.clear()
            watched.step, watched.since = step, now
        elif not loop.get_debug():
            self._judge(loop, watched, listeners, now - watched.since)
        return running

    def _judge(self, loop, watched, listeners, seconds):
        wishes = [(None, watched.threshold), *((key, threshold) for key, (_, threshold) in listeners)]
        for key, threshold in wishes:
            if seconds < threshold or key in watched.blocked:
                continue
            told = next(iter(watched.blocked.values()), None)
            if told is None:
                told = SlowStep(loop, _current_task(loop), seconds, _stack(loop), False)
                if loop._pulse() != (True, watched.step):
                    # Over in this very moment: the stack may be another step's.
                    return
            watched.blocked[key] = told
            self._tell(key, listeners, _later(told, seconds, finished=False))

    def _tell(self, key, listeners, slow):
        if key is None:
            _log(slow)
            return
        callback = dict(listeners).get(key, (None,))[0]
        if callback is None:
            return
        try:
            callback(slow)
        except Exception:
            logger.exception("Exception in a callback of ferrio.observe.on_slow_step: %r", callback)


def _later(told, seconds, *, finished):
    return dataclasses.replace(told, seconds=seconds, finished=finished)


def _log(slow):
    what = _name(slow.task) if slow.task is not None else "A callback"
    if slow.finished:
        logger.warning("%s has blocked the loop for %.3f seconds", what, slow.seconds)
    else:
        stack = "".join(slow.stack).rstrip()
        logger.warning("%s is blocking the loop, for %.3f seconds so far:\n%s", what, slow.seconds, stack)


def _name(task):
    coroutine = task.get_coro()
    function = getattr(coroutine, "__qualname__", None) or type(coroutine).__name__
    return f"{task.get_name()} ({function})" if hasattr(task, "get_name") else function


def _current_task(loop):
    # Whatever goes wrong in a look from another thread costs the name, not the report.
    with contextlib.suppress(RuntimeError):
        return asyncio.current_task(loop)
    return None


def _stack(loop):
    """The stack of the loop's thread, from the program's own code on."""
    frame = sys._current_frames().get(loop._thread_id)
    if frame is None:
        return []
    summary = traceback.extract_stack(frame)
    del frame
    runs = [
        place for place, line in enumerate(summary) if line.filename.startswith(_FRAMES) and line.name.startswith("run")
    ]
    return traceback.format_list(summary[runs[-1] + 1 :] if runs and runs[-1] + 1 < len(summary) else summary)


def _from_environment():
    """FERRIO_SLOW_STEPS, in seconds; None if it says nothing that makes sense."""
    text = os.environ.get("FERRIO_SLOW_STEPS")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < math.inf:
        logger.warning("FERRIO_SLOW_STEPS is to be a number of seconds, not %r", text)
        return None
    return seconds


watchdog = _Watchdog()
atexit.register(watchdog.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watchdog.after_fork)
