"""Steps that hold their loop up are reported while they do, with the stack: by a thread that exists only if somebody wants
to know, and sleeps while all loops do.

The thread itself is native (``crates/ferrio/src/recorder/watch.rs``) and comes to the interpreter only with a finding.
It does not keep the process alive, and a fork does not meet it: it ends before and begins again after, on both sides.
"""

import asyncio
import atexit
import inspect
import logging
import math
import os
import sys
import threading
import traceback
import weakref
from dataclasses import dataclass, field, replace

from .. import _ferrio, _loops
from .waiting import name_of

logger = logging.getLogger("asyncio")

#: Seconds. Nothing shorter is looked for.
SHORTEST = 0.001


@dataclass(frozen=True)
class SlowStep:
    """A step of a loop that takes long: told of while it does, and once more when it is over."""

    loop: asyncio.AbstractEventLoop = field(repr=False)
    #: The task whose step it is; None for a callback, or if it could not be seen.
    task: asyncio.Task | None = field(repr=False)
    #: "task 'Task-3' (fetch)", or "a callback". Without the interpreter lock "a task (fetch)", until the step is over.
    name: str
    #: Its number among the steps of the loop.
    number: int
    #: How long it has taken so far, in seconds; how long it took, once it is over (to an eighth of the threshold).
    seconds: float
    #: What it was doing when it became slow, from the step's first frame to the innermost. Empty if it held the
    #: interpreter lock until it was over.
    stack: traceback.StackSummary = field(repr=False)
    is_over: bool


class SlowStepWatch:
    """What `on_slow_step` returns. ``cancel()`` ends it, and so does the end of a ``with``."""

    def __init__(self, callback, threshold):
        self._callback = callback
        self._threshold = threshold

    def cancel(self):
        """Call the callback no more."""
        with _lock:
            if self in _watches:
                _watches.remove(self)
            _heed()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.cancel()

    def _threshold_for(self, loop):
        return self._threshold

    def _tell(self, step):
        self._callback(step)


class _Log:
    """The reports that ``loop.slow_callback_duration`` asks for. Debug mode has asyncio's own."""

    def _threshold_for(self, loop):
        return math.inf if loop.get_debug() else _thresholds.get(loop, math.inf)

    def _tell(self, step):
        if step.is_over:
            logger.warning("Executing %s took %.3f seconds", step.name, step.seconds)
        elif step.stack:
            stack = "".join(step.stack.format()).rstrip()
            logger.warning("Executing %s has taken %.3f seconds, and still does:\n%s", step.name, step.seconds, stack)
        else:
            text = (
                "Executing %s has taken more than %.3f seconds; it held the interpreter lock, so its stack is not known"
            )
            logger.warning(text, step.name, step.seconds)


_lock = threading.RLock()
_log = _Log()
_watches = []
#: loop -> seconds, of those whose program wants to have it.
_thresholds = weakref.WeakKeyDictionary()
#: The thread, if there is one.
_watcher = None
_is_hooked = False


def on_slow_step(callback, threshold=0.1):
    """Have ``callback(step)`` called with a `SlowStep` when a step of any loop has taken ``threshold`` seconds, while it
    is still being done, and again when it is over. In a thread of its own: it must not touch the loop but by
    ``call_soon_threadsafe()``. What it raises is logged. Returns a `SlowStepWatch`.

    TypeError for what cannot be called, ValueError for a threshold that is not positive.
    """
    if not callable(callback):
        raise TypeError(f"callback must be callable, got {callback!r}")
    if not 0 < threshold < math.inf:
        raise ValueError(f"threshold must be a positive number of seconds, got {threshold!r}")
    watch = SlowStepWatch(callback, max(threshold, SHORTEST))
    with _lock:
        _watches.append(watch)
        _heed()
    return watch


def watch_loop(loop, seconds):
    """Have the loop's steps logged that take so long; none if ``seconds`` is no finite number. Returns whether they are."""
    is_number = isinstance(seconds, int | float) and 0 <= seconds < math.inf
    with _lock:
        if is_number:
            _thresholds[loop] = max(seconds, SHORTEST)
        else:
            _thresholds.pop(loop, None)
        loop._set_slow_after(_thresholds.get(loop, math.inf))
        _heed()
    return is_number


# --- the thread ----------------------------------------------------------------------------------------------------------


def _heed():
    """Has the thread be there if somebody wants to know, and not otherwise."""
    _ferrio.set_slow_threshold(min((watch._threshold for watch in _watches), default=math.inf))
    if _watches or _thresholds:
        _begin()
    else:
        _end()


def _begin():
    global _watcher, _is_hooked
    if _watcher is not None or sys.is_finalizing():
        return
    if not _is_hooked:
        _is_hooked = True
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
        atexit.register(_end)
    steps = _ferrio.SlowSteps()
    _watcher = threading.Thread(target=_watch, args=(steps,), name="ferrio-slow-steps", daemon=True)
    _watcher.start()


def _end():
    global _watcher
    watcher, _watcher = _watcher, None
    if watcher is not None:
        _ferrio.stop_watching()
        if watcher is not threading.current_thread():
            # It may be in somebody's callback, for however long.
            watcher.join(1)


def _before_fork():
    _lock.acquire()
    _end()


def _after_fork():
    if _watches or _thresholds:
        _begin()
    _lock.release()


def _watch(steps):
    slow = {}
    while (sight := steps.next()) is not None:
        slot, number, step, seconds, is_over = sight
        if is_over:
            known = slow.pop(slot, None)
            if known is not None:
                known.tell(seconds, is_over=True)
            continue
        if slot not in slow:
            loop = _loops.by_number.get(number)
            if loop is None:
                continue
            slow[slot] = _Telling(_look(loop, step, seconds))
            del loop
        due = slow[slot].tell(seconds)
        if due < math.inf:
            steps.again(slot, due)


class _Telling:
    """A slow step, and who has been told of it."""

    def __init__(self, step):
        self.step = step
        self.told = []

    def tell(self, seconds, *, is_over=False):
        """Tell those who want to know by now. Returns when the next one does, in seconds; infinity if none does."""
        name = name_of(self.step.task) if is_over and self.step.task and _asking_waits() else self.step.name
        step = replace(self.step, name=name, seconds=seconds, is_over=is_over)
        if is_over:
            wanted, due = self.told, math.inf
        else:
            thresholds = [(listener, listener._threshold_for(step.loop)) for listener in (_log, *_watches)]
            others = [(listener, threshold) for listener, threshold in thresholds if listener not in self.told]
            wanted = [listener for listener, threshold in others if threshold <= seconds]
            due = min((threshold for _, threshold in others if threshold > seconds), default=math.inf)
            self.told += wanted
        for listener in wanted:
            try:
                listener._tell(step)
            except Exception:
                logger.error("Exception in a callback of on_slow_step()", exc_info=True)
        return due


def _look(loop, number, seconds):
    """What the loop's thread is doing, if it is still the same step."""
    ident = loop._thread_ident
    frame = sys._current_frames().get(ident)
    task = asyncio.current_task(loop)
    frames = _frames(frame, task) if frame is not None else None
    del frame
    if frames is None or loop._counters()["steps"] != number:
        task, frames, name = None, (), "a step"
    elif task is None:
        name = "a callback"
    elif _asking_waits():
        name = f"a task ({frames[0][0].f_code.co_qualname})" if frames else "a task"
    else:
        name = name_of(task)
    stack = traceback.StackSummary.extract(frames, lookup_lines=False)
    return SlowStep(loop, task, name, number, seconds, stack, False)


def _asking_waits():
    """Whether a task that runs answers only when its step is over: without the interpreter lock it is locked itself."""
    is_gil_enabled = getattr(sys, "_is_gil_enabled", None)  # since 3.13
    return is_gil_enabled is not None and not is_gil_enabled()


def _frames(frame, task):
    """The frames of a step, outermost first, with their lines: from its coroutine's on, or what is inside of whoever runs
    the loop."""
    coroutine = None if task is None or _asking_waits() else task.get_coro()
    outermost = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
    frames = []
    for inner, line in traceback.walk_stack(frame):
        if inner.f_code.co_filename in _RUNNERS and inner.f_code.co_name in (
            "run",
            "run_until_complete",
            "run_forever",
        ):
            break
        frames.append((inner, line))
        if inner is outermost:
            break
    if task is not None and outermost is None:
        # Then it is the outermost coroutine of this run.
        coroutines = [
            depth for depth, (inner, _) in enumerate(frames, 1) if inner.f_code.co_flags & inspect.CO_COROUTINE
        ]
        del frames[coroutines[-1] if coroutines else len(frames) :]
    return frames[::-1]


#: The code that runs loops, in asyncio and here.
_RUNNERS = {asyncio.runners.__file__, os.path.join(os.path.dirname(_loops.__file__), "runners.py")}
