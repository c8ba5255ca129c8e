"""What a loop leaves in its process's page for whoever looks: its tasks, and what each of them waits for.

Called by the loop, between two turns: when somebody asks, and about once a second for those who come when it can no
longer answer. The unasked one is short: it looks closely at few tasks and counts no more than some thousands. Nothing
of the program's data is in it: names of functions and tasks, lines, numbers of descriptors, addresses of peers, sizes.
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
VERSION = 1

#: Tasks that are described one by one, and tasks that are counted by what they do: for who asks, and unasked.
ASKED, UNASKED = (400, 200_000), (60, 1_000)

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


_memories = weakref.WeakKeyDictionary()


def write(loop):
    """Leave a snapshot of the loop in the page."""
    memory = _memories.get(loop)
    if memory is None:
        memory = _memories[loop] = Memory()
    asked = requests()
    is_asked, memory.answered = asked != memory.answered, asked
    if memory.has_failed and not is_asked:
        return
    described, counted = ASKED if is_asked else UNASKED
    memory.has_failed = True
    snapshot = take(loop, memory, described, counted)
    snapshot["asked"] = is_asked
    text = json.dumps(snapshot, separators=(",", ":")).encode()
    while len(text) > ROOM and described > 1:
        # Very long names: as many tasks as fit.
        described //= 4
        snapshot["tasks"]["described"] = snapshot["tasks"]["described"][:described]
        snapshot["descriptors"]["described"] = snapshot["descriptors"]["described"][:described]
        text = json.dumps(snapshot, separators=(",", ":")).encode()
    loop._write_snapshot(text)
    memory.has_failed = False


def take(loop, memory, described, counted):
    """A snapshot as plain data."""
    begun = time.monotonic()
    descriptors = resources.Descriptors(loop)
    tasks = memory.tasks.look(loop, described, counted, descriptors, memory.queues)
    ready, ready_kinds = loop._look_at_ready()
    snapshot = {
        "version": VERSION,
        "python": sys.version.split()[0],
        "at": begun,
        "clock": "virtual" if loop._clock_is_virtual else "real",
        "debug": loop.get_debug(),
        "tasks": tasks,
        "timers": memory.tasks.timers,
        "ready": {"count": ready, "kinds": resources.kinds(ready_kinds)},
        "descriptors": descriptors.describe(described, memory.unread, begun),
        "executors": memory.executors.describe(loop, begun),
        "queues": memory.queues.describe(begun),
        "signals": loop._signals_seen,
        "errors": loop._errors,
        "threads": [[thread.ident, thread.native_id, thread.name[:40]] for thread in threading.enumerate()[:200]],
    }
    counts = [round(begun, 3), tasks["count"], snapshot["timers"]["count"], ready, snapshot["descriptors"]["count"]]
    history = memory.history
    if history and begun - history[-1][0] < 0.9:
        # Not more than one a second, however often somebody asks.
        snapshot["history"] = [*history, counts]
    else:
        history.append(counts)
        del history[:-REMEMBERED]
        snapshot["history"] = history
    snapshot["cost"] = time.monotonic() - begun
    return snapshot
