"""A loop's counters, as numbers to compare and to show."""

import asyncio
import time
from dataclasses import dataclass, field

from ..event_loop import EventLoop


@dataclass(frozen=True)
class Times:
    """How often something took how long."""

    #: How many there ever were.
    count: int
    #: The longest ever, in seconds.
    longest: float
    #: The last minutes: (at most so many seconds, how many), shortest first. Older ones fade by half a minute.
    buckets: tuple[tuple[float, int], ...] = field(repr=False)

    def percentile(self, percent):
        """The time that ``percent`` (0 to 100) of those of the last minutes did not exceed, in seconds, to a quarter; 0.0 if
        there were none.

        ValueError for a percentage that is none.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"percent must be from 0 to 100, got {percent!r}")
        wanted = sum(count for _, count in self.buckets) * percent / 100
        for end, count in self.buckets:
            wanted -= count
            if wanted <= 0:
                return min(end, self.longest)
        return 0.0


@dataclass(frozen=True)
class LoopStats:
    """What a loop has done since it was made. Times are in seconds."""

    #: Its number among the loops of this process.
    number: int
    #: "running" (in a turn), "asleep" (in the operating system, until there is news) or "idle" (not run by anybody).
    state: str
    #: Steps of tasks and callbacks; turns; how often it fell asleep.
    steps: int
    turns: int
    sleeps: int
    #: How long it ran and did not sleep, and how long it slept.
    busy: float
    asleep: float
    #: How many timers were set when it last fell asleep.
    timers: int
    #: Turns of a tenth of a second or longer, and the longest.
    slow_turns: int
    longest_turn: float
    #: How late timers fired.
    lateness: Times
    #: How long it was busy between two sleeps.
    stretches: Times

    @property
    def utilization(self):
        """The share of its time that it was busy, from 0.0 to 1.0."""
        return self.busy / (self.busy + self.asleep) if self.busy else 0.0


def loop_stats(loop=None):
    """The statistics of a loop; of the running one if none is given. From any thread.

    RuntimeError if no loop is running, TypeError for a loop that is not ferrio's.
    """
    if loop is None:
        loop = asyncio.get_running_loop()
    if not isinstance(loop, EventLoop):
        raise TypeError(f"loop must be a ferrio.EventLoop, got {loop!r}")
    known = loop._counters()
    # The loop adds to these when a stretch is over.
    present = max(time.monotonic() - known["since"], 0.0)
    state = known["state"]
    return LoopStats(
        number=known["number"],
        state=state,
        steps=known["steps"],
        turns=known["turns"],
        sleeps=known["sleeps"],
        busy=known["worked"] + (present if state == "running" else 0.0),
        asleep=known["slept"] + (present if state == "asleep" else 0.0),
        timers=known["timers"],
        slow_turns=known["slow_turns"],
        longest_turn=known["longest_turn"],
        lateness=_times(known["late"]),
        stretches=_times(known["busy"]),
    )


def _times(known):
    return Times(known["count"], known["longest"], tuple(known["buckets"]))
