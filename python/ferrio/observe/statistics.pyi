from asyncio import AbstractEventLoop
from dataclasses import dataclass
from typing import Literal

@dataclass(frozen=True)
class Times:
    count: int
    longest: float
    buckets: tuple[tuple[float, int], ...]
    def percentile(self, percent: float) -> float: ...

@dataclass(frozen=True)
class LoopStats:
    number: int
    state: Literal["running", "asleep", "idle"]
    steps: int
    turns: int
    sleeps: int
    busy: float
    asleep: float
    timers: int
    slow_turns: int
    longest_turn: float
    lateness: Times
    stretches: Times
    @property
    def utilization(self) -> float: ...

def loop_stats(loop: AbstractEventLoop | None = None) -> LoopStats: ...
