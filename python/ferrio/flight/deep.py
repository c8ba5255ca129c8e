"""The level deep of a running process: what its loops do, with lines and awaited expressions, in a file beside its page.

Wished for from outside (`ferrio level PID deep`) or from within (`ferrio.observe.level("deep")`), it observes each loop and
writes the events of ``ferrio explain`` (version 1, a line of JSON each) for the ones that concern tasks, sleeps and wake-ups.
The file is on the page's tmpfs and bounded: two halves, of which the older is dropped when the newer is full. Whoever looks
reads it without the process's help. Code and names are in it, values are not.
"""

import asyncio
import atexit
import contextlib
import itertools
import json
import linecache
import os
import time
import weakref

from .. import _ferrio
from ..observe.waiting import where_of

#: Bytes of one of the two halves.
HALF = 4 * 1024 * 1024

#: The files' endings, newest first; the page's is ``.loop``.
ENDINGS = (".deep", ".deep.old")


def read(page):
    """The events beside a page, oldest first: the head, then the others. An empty list if there are none."""
    events = []
    for ending in reversed(ENDINGS):
        with contextlib.suppress(FileNotFoundError), open(_beside(page, ending), encoding="utf-8") as file:
            for line in file:
                # The last line of a process that died may not be whole.
                with contextlib.suppress(json.JSONDecodeError):
                    events.append(json.loads(line))
    heads = [event for event in events if event["event"] == "head"]
    return heads[-1:] + [event for event in events if event["event"] != "head"]


def _beside(page, ending):
    return os.fspath(page).removesuffix(".loop") + ending


def begin(loop):
    """Observe the loop until the level is another."""
    page = _ferrio.page_path()
    if page is not None:
        _observed.add(loop)
        loop._observe(_Observer(loop, _writer(page)))


def end(loop):
    """Stop that."""
    if loop in _observed:
        _observed.discard(loop)
        loop._observe(None)
        _flush()


_observed = weakref.WeakSet()
_writers = {}


def _writer(page):
    # One for all loops of a process; a forked child has a page of its own.
    if page not in _writers:
        if not _hooked:
            _hooked.append(atexit.register(_close))
            # What waits in a buffer is written once, by the parent.
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(before=_flush)
        _close()
        _writers[page] = _Writer(page)
    return _writers[page]


_hooked = []


def _flush():
    for writer in _writers.values():
        writer.flush()


def _close():
    while _writers:
        _writers.popitem()[1].close()


class _Writer:
    def __init__(self, page):
        self._page = page
        self.began = time.monotonic()
        self._numbers = itertools.count(1)
        self._names = weakref.WeakKeyDictionary()  # task → (number, name)
        self._tasks = itertools.count(1)
        self._taken = {}
        self._open()

    def _open(self):
        from sys import argv, version

        from .. import __version__

        path = _beside(self._page, ENDINGS[0])
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, _beside(self._page, ENDINGS[1]))
        self._file = open(path, "w", encoding="utf-8", errors="replace", opener=_private)
        head = {
            "event": "head",
            "version": 1,
            "program": os.path.basename(argv[0]) or "python",
            "argv": argv[1:],
            "python": version.split()[0],
            "ferrio": __version__,
            "clock": "real",
            "started": time.time() - (time.monotonic() - self.began),
            "sources": {},
        }
        self._file.write(json.dumps(head) + "\n")

    def now(self):
        return round(time.monotonic() - self.began, 7)

    def write(self, event, at=None):
        if self._file.closed:
            return  # the interpreter is ending, or there is no room
        line = {"n": next(self._numbers), "t": self.now() if at is None else at, **event}
        with self._once():
            self._file.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")
            if self._file.tell() > HALF:
                self._file.close()
                self._open()

    def flush(self):
        if not self._file.closed:
            with self._once():
                self._file.flush()

    @contextlib.contextmanager
    def _once(self):
        """What cannot be written is said once, and nothing more is written: a full tmpfs is not filled with complaints."""
        try:
            yield
        except OSError:
            with contextlib.suppress(OSError):
                self._file.close()
            raise

    def close(self):
        self._file.close()

    def name(self, task):
        """The task's number and its name in the events."""
        known = self._names.get(task)
        if known is None:
            coroutine = task.get_coro()
            name, own = getattr(coroutine, "__name__", None) or type(coroutine).__name__, task.get_name()
            if not (own.startswith("Task-") and own[5:].isdigit()):
                name = own
            count = self._taken[name] = self._taken.get(name, 0) + 1
            known = self._names[task] = next(self._tasks), name if count == 1 else f"{name}#{count}"
        return known


def _private(path, flags):
    return os.open(path, flags, 0o600)


class _Observer:
    """Hears from one loop (see ``EventLoop._observe``)."""

    def __init__(self, loop, writer):
        self._loop = weakref.ref(loop)
        self._writer = writer
        self._begun = set()
        self._ready = {}  # id of a task → when it was made ready
        self._current = None
        self._at = 0.0
        self._causes = {}  # number of a step → the number of the task whose it is, or the cause of the callback's
        self._slept = 0.0
        self._newborn = None

    def queued(self, subject, kind, payload):
        self._deliver()
        task = _task_of(subject)
        if task is None or task.done():
            return
        self._ready[id(task)] = time.monotonic()
        cause, words = self._cause(kind, payload)
        if id(task) not in self._begun:
            by = {"task": cause["task"]} if cause["kind"] == "task" else {"loop": True}
            # Before Python 3.12 a task gets its name after it was queued.
            self._newborn = task, by, words, self._writer.now()
        else:
            self._tell(task, "ready", f"is ready: {words}", because=cause)

    def _deliver(self):
        if self._newborn is not None:
            (task, by, words, at), self._newborn = self._newborn, None
            self._tell(task, "queued", f"is queued, by {words}", at=at, by=by)

    def begins(self, number, subject, kind, payload):
        self._deliver()
        task = _task_of(subject)
        self._at = time.monotonic()
        self._causes[number] = (self._writer.name(task)[0], None) if task is not None else (None, (kind, payload))
        if len(self._causes) > 10_000:
            for old in list(itertools.islice(self._causes, 5_000)):
                del self._causes[old]
        self._current = task if task is not None and not task.done() else None
        if self._current is not None:
            waited = self._at - self._ready.pop(id(task), self._at)
            first = id(task) not in self._begun
            if first:
                self._begun.add(id(task))
                weakref.finalize(task, self._begun.discard, id(task)).atexit = False
            text = "starts" if first else "continues"
            extra = {} if first else {"step": number}
            self._tell(task, "start" if first else "resume", text, waited=waited, **extra)

    def ends(self, number):
        self._deliver()
        task, self._current = self._current, None
        if task is None:
            return
        ran = time.monotonic() - self._at
        if task.done():
            outcome = "cancelled" if task.cancelled() else "raised" if _failed(task) else "returned"
            self._tell(task, "finish", f"is over ({outcome})", outcome=outcome, value="", ran=ran, total=ran, tells=[])
        else:
            wait, words = self._wait(task)
            self._tell(task, "pause", f"gives the thread back; it waits for {words}", ran=ran, waits=wait)

    def sleeps(self, timer):
        self._deliver()
        until = None if timer is None else {"timer": timer[0], "in": max(0.0, timer[1] - time.monotonic())}
        self._slept = time.monotonic()
        text = "Nobody is ready: the loop asks the operating system."
        self._writer.write({"event": "asleep", "text": text, "until": until, "watches": []})
        # Before the loop sleeps, so that nothing waits in a buffer while nothing happens.
        self._writer.flush()

    def wakes(self):
        slept = time.monotonic() - self._slept
        text = f"The operating system woke the loop after {slept:.6f} s."
        self._writer.write({"event": "awake", "text": text, "slept": slept, "by": []})

    def timer_set(self, timer, when, subject):
        pass

    def timer_gone(self, timer):
        pass

    # --- in words ----------------------------------------------------------------------------------------------------

    def _tell(self, task, event, words, at=None, **fields):
        number, name = self._writer.name(task)
        line = {"event": event, "task": number, "name": name}
        where = where_of(task)
        if where is not None:
            file, number = where.filename, where.lineno
            code = linecache.getline(file, number).strip()
            line |= {"file": os.path.basename(file), "line": number, "code": code}
            words = f"{words}; line {number}: {code}"
        self._writer.write(line | fields | {"text": f"{name} {words}."}, at)

    def _cause(self, kind, payload):
        # What a callback does is done by whatever made it run.
        for _ in range(100):
            if kind != "step":
                break
            task, before = self._causes.get(payload, (None, ("outside", 0)))
            if task is not None:
                return {"kind": "task", "task": task, "step": payload}, f"task {task}"
            kind, payload = before
        match kind:
            case "timer":
                return {"kind": "timer", "timer": payload}, f"timer {payload}"
            case "descriptor":
                direction = "write" if payload & 1 else "read"
                return {"kind": "socket", "fd": payload >> 1, "direction": direction}, f"descriptor {payload >> 1}"
            case "signal":
                return {"kind": "signal", "number": payload}, f"signal {payload}"
            case "child":
                return {"kind": "child", "pid": payload}, f"the end of process {payload}"
            case "thread":
                return {"kind": "thread"}, "another thread"
        return {"kind": "outside"}, "code outside of the loop"

    def _wait(self, task):
        awaited = getattr(task, "_fut_waiter", None)
        if awaited is None:
            return {"kind": "turn"}, "the next turn"
        if isinstance(awaited, asyncio.Task):
            number, name = self._writer.name(awaited)
            return {"kind": "task", "tasks": [number]}, f"the end of {name}"
        return {"kind": "future", "on": type(awaited).__name__}, f"a {type(awaited).__name__}"


def _task_of(subject):
    """The task whose step this is, if it is one's."""
    return subject if isinstance(subject, asyncio.Task) else None


def _failed(task):
    # Looking at an exception marks it as retrieved; that is not ours to do.
    return getattr(task, "_exception", None) is not None
