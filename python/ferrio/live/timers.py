"""The timers of a loop as plain data: how many of which kind, and which of them ends what a task waits for."""

import asyncio
import asyncio.timeouts

from .. import _ferrio
from . import resources

#: Timers that are looked at in one piece: for half a millisecond.
_PIECE = 1024

_TIMEOUTS = (_ferrio.Timeout, asyncio.timeouts.Timeout)


class Timers:
    """At most ``most`` timers. What they end is told as it is when it is asked for, not as it was when they were met."""

    def __init__(self, most):
        self._look = _ferrio.TimerLook(_TIMEOUTS, most)
        self._kinds = resources.Kinds()
        self._limits = {}  # id of a task → numbers of the timeouts that it is inside of
        self._loop = None

    def look(self, where):
        """Looks at the timers of the loop ``where()``. A generator, as the tasks' is."""
        more = True
        while more:
            more, groups, limits = self._look.go_on(where(), _PIECE)
            self._kinds.add(groups)
            self._meet(limits)
            groups = limits = None
            yield

    def _meet(self, limits):
        for number, timeout in limits:
            self._limits.setdefault(id(getattr(timeout, "_task", None)), []).append(number)

    def stand_at(self, loop):
        """What is asked from now on is asked of the loop as it is now; nothing more is asked if it is None."""
        self._loop = loop
        if loop is not None:
            self._meet(self._look.catch_up(loop))

    def wait(self, future):
        """The Wait for the timer that ends what a future stands for, or None."""
        end = self._look.end(self._loop, future)
        return self._wait(end) if end is not None else None

    def limits(self, task, future):
        """The same of the timeout that is due first of those that a task is inside of, in a list."""
        ends = [self._look.due(self._loop, number) for number in self._limits.get(id(task), ())]
        end = min((end for end in ends if end is not None), default=None)
        return [self._wait(end) | {"limit": True}] if end is not None else []

    def _wait(self, end):
        return {"kind": "timer", "in": round(end - self._loop.time(), 3)}

    def summary(self, loop):
        """All that is said of the timers besides."""
        (count, first), now = loop._timers_set(), loop.time()
        first = None if first is None else round(first - now, 6)
        return {"count": count, "next": first, "kinds": self._kinds.most_frequent(now)}
