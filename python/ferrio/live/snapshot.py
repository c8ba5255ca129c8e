"""What a loop leaves in its process's page for whoever looks: its tasks, and what each of them waits for.

Called by the loop, between two turns: when somebody asks, and about once a second for those who come when it can no
longer answer. The unasked one is short: it looks closely at few tasks and counts no more than some thousands. Nothing
of the program's data is in it: names of functions and tasks, lines, numbers of descriptors, addresses of peers, sizes.

It is taken in slices, with turns of the loop between them, so that it keeps nobody waiting. So it is no picture of one
moment: each task is told of as it was at some moment between ``began`` and ``at``, with all that is said of it, and whoever
ended in the meantime is left out. Nothing is kept alive between two slices.
"""

import json
import sys
import threading
import time
import weakref

from .._ferrio import requests
from . import resources
from .tasks import Tasks

#: Of what is written here; whoever reads it knows one.
VERSION = 3

#: Seconds of the loop's time for a slice. (What is done in one piece may take as long again.)
SLICE = 0.001

#: Seconds after which what was begun is begun anew: the loop was not running.
_STALE = 1.0

#: Bytes: there is room for so much in the page.
ROOM = 512 * 1024

#: Moments of which a loop remembers its counts.
REMEMBERED = 40


class Memory:
    """What one loop's snapshots know of earlier ones."""

    def __init__(self):
        #: The newest request that was answered.
        self.answered = 0
        self.tasks = Tasks()
        self.queues = resources.Queues()
        self.executors = resources.Executors()
        self.unread = {}
        self.history = []
        #: It could not be taken: it is tried again only if somebody asks, so that the error is not reported every second.
        self.has_failed = False
        #: The snapshot that is being taken, and when it was last gone on with.
        self.taking = None
        self.went_on = 0.0


_memories = weakref.WeakKeyDictionary()


def write(loop):
    """Go on with leaving a snapshot of the loop in the page, for a slice. True if there is more to do."""
    memory = _memories.get(loop)
    if memory is None:
        memory = _memories[loop] = Memory()
    now = time.monotonic()
    if memory.taking is None or now - memory.went_on > _STALE:
        asked = requests()
        is_asked, memory.answered = asked != memory.answered, asked
        if memory.has_failed and not is_asked:
            return False
        memory.taking = _writing(weakref.ref(loop), memory, is_asked)
    memory.has_failed = True
    taking, memory.taking = memory.taking, None
    for _ in taking:
        if time.monotonic() - now >= SLICE:
            memory.taking, memory.went_on = taking, time.monotonic()
            break
    memory.has_failed = False
    return memory.taking is not None


def _writing(where, memory, is_asked):
    answers = memory.answered
    snapshot = yield from taking(where, memory, is_asked)
    snapshot["asked"] = is_asked
    # What is long is written piece by piece, and as much of it as there is room for.
    room, parts = ROOM - 1024, []
    lists = {"tasks": snapshot["tasks"].pop("described"), "descriptors": snapshot["descriptors"].pop("described")}
    room -= len(_text(snapshot))
    yield
    for name, list_ in lists.items():
        texts = []
        for start in range(0, len(list_), 32):
            texts += map(_text, list_[start : start + 32])
            yield
        while texts and sum(map(len, texts)) + len(texts) > room:
            del texts[len(texts) * 3 // 4 :]
        room -= sum(map(len, texts)) + len(texts)
        parts.append(_text(snapshot.pop(name))[:-1] + b',"described":[' + b",".join(texts) + b"]}")
    rest = _text(snapshot)[:-1]
    text = b"%b,%b}" % (rest, b",".join(b'"%b":%b' % (name.encode(), part) for name, part in zip(lists, parts)))
    where()._write_snapshot(text, answers)


def _text(data):
    return json.dumps(data, separators=(",", ":")).encode()


def take(loop, memory, is_asked=True):
    """A snapshot as plain data, in one go."""
    pieces = taking(weakref.ref(loop), memory, is_asked)
    while True:
        try:
            next(pieces)
        except StopIteration as stop:
            return stop.value


def taking(where, memory, is_asked):
    """A snapshot of the loop ``where()`` as plain data: a generator that yields after each piece of work."""
    began = time.monotonic()
    watched = resources.Watched()
    yield from watched.look(where)
    tasks, timers = yield from memory.tasks.look(where, watched, is_asked, memory.queues)
    descriptors = yield from resources.descriptors(where, watched, is_asked, memory.unread, began)
    queues = yield from memory.queues.describe(began)
    snapshot = _rest(where(), memory, began)
    snapshot |= {"tasks": tasks, "timers": timers, "descriptors": descriptors, "queues": queues}
    counts = [
        round(began, 3),
        tasks["count"],
        snapshot["timers"]["count"],
        snapshot["ready"]["count"],
        descriptors["count"],
    ]
    history = memory.history
    if history and began - history[-1][0] < 0.9:
        # Not more than one a second, however often somebody asks.
        snapshot["history"] = [*history, counts]
    else:
        history.append(counts)
        del history[:-REMEMBERED]
        snapshot["history"] = history
    snapshot["at"] = time.monotonic()
    return snapshot


def _rest(loop, memory, began):
    """What is told in one piece."""
    ready, ready_kinds = loop._look_at_ready()
    kinds = resources.Kinds()
    kinds.add(ready_kinds)
    return {
        "version": VERSION,
        "python": sys.version.split()[0],
        "began": began,
        "clock": "virtual" if loop._clock_is_virtual else "real",
        "debug": loop.get_debug(),
        "ready": {"count": ready, "kinds": kinds.most_frequent(0.0)},
        "executors": memory.executors.describe(loop, began),
        "signals": loop._signals_seen,
        "errors": loop._errors,
        "threads": [[thread.ident, thread.native_id, thread.name[:40]] for thread in threading.enumerate()[:200]],
    }
