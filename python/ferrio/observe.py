"""What a program can learn of its own loops while they run: counters, tasks and what they wait for, slow steps, the record.

::

    from ferrio import observe

    observe.on_slow_step(report, threshold=0.2)      # told while the loop is blocked, with the stack
    observe.loop_stats().late.percentile(99)         # how late timers fire, in seconds
    observe.level("flight")                          # from now on every wake-up and step is recorded …
    observe.dump("incident.xlog")                    # … and this saves the newest of them

Nothing here is imported or paid for unless it is used.
"""

import asyncio
import functools
import gc
import inspect
import math
import time
import types
import weakref
from dataclasses import dataclass, field

from . import _ferrio
from ._watchdog import SlowStep, watchdog

__all__ = [
    "LoopStats",
    "SlowStep",
    "TaskStats",
    "Times",
    "awaited_by",
    "awaited_by_chain",
    "dump",
    "level",
    "loop_stats",
    "on_slow_step",
    "tasks",
]


@dataclass(frozen=True)
class Times:
    """How long something took, by length; old times fade, minute by minute."""

    #: How many there ever were.
    count: int
    #: The longest ever, in seconds.
    longest: float
    #: (at most so many seconds, how many lately), shortest first.
    buckets: list[tuple[float, int]]

    def percentile(self, percent):
        """The time in seconds that so many percent do not exceed (rounded up by a fifth at most); 0.0 without any."""
        if not 0 < percent <= 100:
            raise ValueError(f"a percentile is above 0 and not above 100, got {percent!r}")
        total = sum(count for _, count in self.buckets)
        seen = 0
        for end, count in self.buckets:
            seen += count
            if seen >= total * percent / 100:
                return end
        return 0.0


@dataclass(frozen=True)
class LoopStats:
    """A loop's counters. Seconds, and counts since the loop was made."""

    #: "running" (in a turn), "asleep" (in the operating system), "idle" (nobody runs it).
    state: str
    #: Steps (callbacks and tasks' steps) and turns begun.
    steps: int
    turns: int
    #: How often it went to sleep, and for how long in all.
    sleeps: int
    asleep: float
    #: For how long its present run has lasted, and which part of that it was not asleep (0.0 to 1.0). Both 0.0 if idle.
    running: float
    utilization: float
    #: Timers that are set, as of the last sleep.
    timers: int
    #: Turns of a tenth of a second or longer, and the longest of them.
    slow_turns: int
    longest_turn: float
    #: How late timers fired, and how long the loop was busy between two sleeps.
    late: Times
    busy: Times
    #: "off", "pulse", "flight" or "deep".
    level: str


@dataclass(frozen=True)
class TaskStats:
    """A task that has not ended."""

    task: asyncio.Task
    name: str
    #: The qualified name of its coroutine's function.
    coroutine: str
    #: Where it stands: the innermost frame of its coroutines that is the program's own, as (file, line). None while it has
    #: not begun, or if that cannot be seen.
    place: tuple[str, int] | None
    #: The future that it waits for; None if it is ready or runs.
    waits_for: object | None
    #: Who waits for it to end.
    awaited_by: list[asyncio.Task] = field(default_factory=list)


def loop_stats(loop=None):
    """The counters of a loop of ferrio's (None: the running one), which may run in another thread.

    RuntimeError if no loop runs; TypeError for a loop of another kind.
    """
    loop = asyncio.get_running_loop() if loop is None else loop
    _check(loop)
    known, now = loop._counters(), time.monotonic()
    asleep, running, utilization = known["slept"], 0.0, 0.0
    if known["state"] == "asleep":
        # The sleep that lasts is counted when it is over.
        asleep += max(0.0, now - known["since"])
    if known["state"] in ("running", "asleep"):
        running = max(0.0, now - known["run_began"])
        idle = asleep - _asleep_before(loop, known["run_began"], asleep, running)
        utilization = min(1.0, max(0.0, 1.0 - idle / running)) if running else 0.0
    return LoopStats(
        state=known["state"],
        steps=known["steps"],
        turns=known["turns"],
        sleeps=known["sleeps"],
        asleep=asleep,
        running=running,
        utilization=utilization,
        timers=known["timers"],
        slow_turns=known["slow_turns"],
        longest_turn=known["longest_turn"],
        late=Times(**known["late"]),
        busy=Times(**known["busy"]),
        level=level(),
    )


#: loop → (when its run began, what it had slept before): a loop that ran before has slept before.
_runs = weakref.WeakKeyDictionary()


def _asleep_before(loop, run_began, asleep, running):
    known = _runs.get(loop)
    if known is None or known[0] != run_began:
        # Exact if this is its first run; else as if it had slept all the time since, at the most.
        known = _runs[loop] = run_began, max(0.0, asleep - running)
    return known[1]


def _check(loop):
    if not isinstance(loop, _ferrio.Loop):
        raise TypeError(f"a ferrio event loop is expected, got {loop!r}")


def tasks(loop=None):
    """The tasks of a loop (None: the running one) that have not ended, each with what it waits for and who waits for it.

    To be called in the loop's thread, or while nothing runs it. RuntimeError if no loop runs.
    """
    loop = asyncio.get_running_loop() if loop is None else loop
    known = sorted(asyncio.all_tasks(loop), key=lambda task: (len(task.get_name()), task.get_name()))
    waiters = _waiters(known)
    return [
        TaskStats(task, task.get_name(), _name_of(task), _place(task), _waits_for(task), _awaited_by(task, waiters))
        for task in known
    ]


def awaited_by(future, loop=None):
    """The tasks that cannot go on before this task or future is done: directly, or through gather(), wait(), shield(), a
    TaskGroup and their like. Works on every version of Python. In the loop's thread only.
    """
    return _awaited_by(future, _waiters(asyncio.all_tasks(loop or _loop_of(future))))


def awaited_by_chain(future, loop=None):
    """As `awaited_by`, with those who wait for them, and so on: nearest first, each once."""
    waiters = _waiters(asyncio.all_tasks(loop or _loop_of(future)))
    chain, reached = [], [future]
    for known in reached:
        for task in _awaited_by(known, waiters):
            if task not in reached:
                reached.append(task)
                chain.append(task)
    return chain


def on_slow_step(callback, threshold=0.1):
    """Have ``callback(SlowStep)`` called while a step has blocked a loop of this process for ``threshold`` seconds, and
    once more when it is over (`SlowStep.finished`). Returns a function that ends this.

    It is called in a thread of its own, the *watchdog*, which is there from then on and does not keep the process alive;
    what it raises is logged. It is told as soon as Python code can run beside the step: not before the end of one call of C
    code that keeps the interpreter lock. Loops in debug mode are not watched: asyncio itself logs there.

    TypeError if the callback cannot be called; ValueError if the threshold is not a positive number of seconds.
    """
    if not callable(callback):
        raise TypeError(f"a callable object is expected, got {callback!r}")
    if not 0 < threshold < math.inf:
        raise ValueError(f"the threshold is a positive number of seconds, got {threshold!r}")
    key = watchdog.listen(callback, threshold, _loops())
    return lambda: watchdog.forget(key)


def level(name=None):
    """How much the loops of this process record: "pulse", "flight" or "deep" (docs/observe.md); "off" in a build without.

    With a name, they record so much from their next look at the operating system on. Returns the level that was wanted
    before. ValueError for another name.
    """
    before = _ferrio.wanted_level()
    if name is not None:
        _ferrio.want_level(name)
    return before


def dump(path):
    """Save the record of this process as it is now, for ``ferrio export``. Returns the number of records.

    OSError if the file cannot be written, or if the record is not in a file (no tmpfs, FERRIO_PAGE=off).
    """
    from .flight import log

    page = _ferrio.page_path()
    if page is None:
        raise OSError("this process has no page: there is no tmpfs for it, or FERRIO_PAGE=off")
    kept = log.of_page(page)
    log.save(kept, path)
    return len(kept.records)


# --- what waits for what ---------------------------------------------------------------------------------------------


def _loops():
    """The loops of ferrio's that live in this process."""
    return [loop for loop in gc.get_objects() if isinstance(loop, _ferrio.Loop) and not loop.is_closed()]


def _loop_of(future):
    return future.get_loop()


def _name_of(task):
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", None) or type(coroutine).__name__


def _waits_for(task):
    return getattr(task, "_fut_waiter", None)


def _waiters(known):
    """id of what is awaited → the tasks that await it."""
    waiters = {}
    for task in known:
        awaited = _waits_for(task)
        if awaited is not None:
            waiters.setdefault(id(awaited), []).append(task)
    return waiters


#: Callbacks lead to a future that is awaited by way of cells, bound methods and their objects: so many steps at most.
_DEEPEST = 6


def _awaited_by(future, waiters):
    found = list(waiters.get(id(future), ()))
    # gather(), TaskGroup and their like are told by a callback, which leads to the future on which they wait.
    reached, seen = _callbacks(future), {id(future)}
    for _ in range(_DEEPEST):
        following = []
        for one in reached:
            if id(one) in seen or isinstance(one, asyncio.Task):
                continue
            seen.add(id(one))
            if id(one) in waiters:
                found += [task for task in waiters[id(one)] if task not in found]
            else:
                # A future that no task awaits may tell another one of its end: gather(shield(…)).
                following += _callbacks(one) if asyncio.isfuture(one) else _held_by(one)
        reached = following
    return found


def _callbacks(future):
    known = getattr(future, "_callbacks", None) or ()
    return [call[0] if isinstance(call, tuple) else call for call in known]


def _held_by(one):
    match one:
        case list() | tuple() | set() | frozenset():
            # Many futures in one container are what is waited for: siblings of this one.
            return [held for held in one if not asyncio.isfuture(held)]
        case functools.partial():
            return [one.func, *one.args, *one.keywords.values()]
        case types.FunctionType():
            return [cell.cell_contents for cell in one.__closure__ or () if _is_filled(cell)]
        case types.MethodType():
            return [one.__self__]
        case type() | types.ModuleType() | types.CodeType() | types.FrameType() | asyncio.AbstractEventLoop():
            return []
        case str() | bytes() | int() | float() | None:
            return []
    return gc.get_referents(one)


def _is_filled(cell):
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _place(task):
    """Where the task's coroutines stand: the innermost frame that is neither asyncio's nor ours."""
    from ._watchdog import _FRAMES

    coroutine, place = task.get_coro(), None
    if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        return None
    for _ in range(100):
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        frame = frame or getattr(coroutine, "ag_frame", None)
        if frame is None:
            break
        if place is None or not frame.f_code.co_filename.startswith(_FRAMES):
            place = frame.f_code.co_filename, frame.f_lineno
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return place
