"""The list of all tasks, of which some may belong to other loops or be over: taken out of it some at a time.

Up to Python 3.13 it is the set of weak references that asyncio keeps, copied. From 3.14 on it is made in C for whoever asks,
in one piece, and there is no other way to the tasks. So if that has taken long, what was found is used again for the
snapshots that nobody asks for, until the time it took is a small part of the time since.
"""

import asyncio
import itertools
import sys
import time
import weakref

#: Of more tasks than these no weak references are made, which takes longer than the list does. They are kept alive until
#: they are taken out: by their loop, so that nobody else keeps them or the loop.
_WEAKLY = 5_000

#: Seconds for a list that is made anew each time; of the time between two that take longer, they are this part at most.
_SHORT, _PART = 0.001, 0.001


class Listed:
    """What is remembered of the lists of one loop's tasks."""

    def __init__(self):
        self._former = None
        self._until = 0.0
        #: Under which name the loop keeps the tasks.
        self._name = f"_listed_{id(self):x}"

    def listing(self, loop, most, is_asked):
        """At most ``most`` of them; for a snapshot that nobody has asked for perhaps those of a while ago."""
        now = time.monotonic()
        vars(loop).pop(self._name, None)  # of a snapshot that was given up
        if not is_asked and now < self._until:
            return Weak(*self._former)
        if sys.version_info < (3, 14):
            sets = [getattr(asyncio.tasks, name, None) for name in ("_all_tasks", "_scheduled_tasks")]
            known = next((known.data for known in sets if hasattr(known, "data")), ())
            return Weak(list(itertools.islice(known, most)), len(known))
        tasks = asyncio.all_tasks(loop)
        took = time.monotonic() - now
        if is_asked and len(tasks) > _WEAKLY:
            return Held(loop, self._name, tasks, most)
        references = [weakref.ref(task) for task in itertools.islice(tasks, most)]
        if took > _SHORT:
            self._former, self._until = (references, len(tasks)), now + took / _PART
        return Weak(references, len(tasks))


class _Listing:
    #: How many tasks there are, and how many of them have been or will be taken out.
    count = looked = 0

    def estimate(self, seen):
        """How many tasks there are in all, if so many of those that were taken out are to be counted."""
        return seen if self.count == self.looked else self.count * seen // max(1, self.looked)


class Weak(_Listing):
    """Weak references to them."""

    def __init__(self, references, count):
        self._references = list(references)
        self.count, self.looked = count, len(references)

    def left(self, loop):
        """How many are left."""
        return len(self._references)

    def take(self, loop, most):
        """Takes some out. Returns those that are still there."""
        taken = self._references[-most:]
        del self._references[-most:]
        return [task for task in [reference() for reference in taken] if task is not None]


class Held(_Listing):
    """They themselves. The loop keeps them."""

    def __init__(self, loop, name, tasks, most):
        self.count, self._name, self._most = len(tasks), name, most
        vars(loop)[name] = tasks

    def left(self, loop):
        left = min(len(vars(loop).get(self._name, ())), self._most - self.looked)
        if not left:
            vars(loop).pop(self._name, None)
        return left

    def take(self, loop, most):
        tasks = vars(loop)[self._name]
        taken = [tasks.pop() for _ in range(min(most, self.left(loop)))]
        self.looked += len(taken)
        return taken
