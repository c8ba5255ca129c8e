"""The timers of one loop: by the numbers that the story gives them, with whom they belong to."""

import asyncio

from .callbacks import is_inner

#: What a timer calls, or wakes, that ends a wait before it has what it waits for: of asyncio's, and ferrio's.
_LIMITS = {"_on_timeout", "_release_waiter", "_handle_timeout", "Timeout", "Waiting", "Completing"}


class Timer:
    """A timer that is set."""

    def __init__(self, number, when, delay, owner):
        self.number = number
        self.when = when
        #: Seconds for which it was set.
        self.delay = delay
        #: The life of the task that has set it, and will be woken by it.
        self.owner = owner
        #: It is a timeout: it ends something else.
        self.limit = False
        #: It calls something of the user's.
        self.calls = False
        self.fired = False


class Timers:
    def __init__(self, loop, new_number):
        self._loop = loop
        self._new_number = new_number
        self._timers = {}  # the loop's number → Timer
        self._of_futures = {}  # id of a future, or of what waits in its place → the loop's number of the timer that ends it

    def set(self, number, when, subject, owner):
        """A timer is set; ``subject`` is what becomes ready then."""
        timer = Timer(self._new_number(), when, _asked_for(when - self._loop().time()), owner)
        self._timers[number] = timer
        self._of_futures[id(subject)] = number
        if isinstance(subject, asyncio.Handle):
            callback = subject._callback
            for argument in subject._args or ():
                if isinstance(argument, asyncio.Future):
                    self._of_futures[id(argument)] = number
            timer.limit = getattr(callback, "__name__", "") in _LIMITS
            if not timer.limit and not is_inner(callback):
                timer.owner = None
                timer.calls = True
        else:
            timer.limit = type(subject).__name__ in _LIMITS
        return timer

    def get(self, number):
        return self._timers.get(number)

    def forget(self, number):
        self._timers.pop(number, None)
        for key in [key for key, value in self._of_futures.items() if value == number]:
            del self._of_futures[key]

    def wait(self, future):
        """The Wait for the timer that will end a future, if one will."""
        timer = self._timers.get(self._of_futures.get(id(future)))
        return self._as_wait(timer) if timer is not None and not timer.fired else None

    def limits(self, life, future):
        """The Waits for the timeouts that a task is under: the next that is due, other than the one that ends ``future``."""
        ends = self._of_futures.get(id(future))
        mine = [
            timer
            for number, timer in self._timers.items()
            if timer.limit and timer.owner is life and not timer.fired and number != ends
        ]
        return [self._as_wait(min(mine, key=lambda timer: timer.when)) | {"limit": True}] if mine else []

    def overdue(self):
        """The lives whose timers should have woken them by now."""
        now = self._loop().time()
        late = sorted(
            (timer for timer in self._timers.values() if timer.when < now and not timer.fired), key=lambda t: t.when
        )
        return [timer.owner for timer in late if timer.owner is not None]

    def _as_wait(self, timer):
        left = self.left(timer.when)
        # Set a moment ago: what the program has asked for, and not what telling has left of it.
        return {"kind": "timer", "timer": timer.number, "in": timer.delay if timer.delay - left < 0.01 else left}

    def left(self, when):
        return round(max(0.0, when - self._loop().time()), 9)


def _asked_for(seconds):
    """What a program has asked for, which is a little more than what is left when that is seen."""
    for digits in (2, 3, 4):
        rounded = round(seconds, digits)
        if -1e-9 <= rounded - seconds < 50e-6:
            return rounded
    return round(max(0.0, seconds), 6)
