from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal

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
class SlowStep:
    loop: AbstractEventLoop
    task: Task[Any] | None
    seconds: float
    stack: list[str]
    finished: bool

@dataclass(frozen=True)
class Times:
    count: int
    longest: float
    buckets: list[tuple[float, int]]
    def percentile(self, percent: float) -> float: ...

@dataclass(frozen=True)
class LoopStats:
    state: Literal["running", "asleep", "idle", "closed"]
    steps: int
    turns: int
    sleeps: int
    asleep: float
    running: float
    utilization: float
    timers: int
    slow_turns: int
    longest_turn: float
    late: Times
    busy: Times
    level: Literal["off", "pulse", "flight", "deep"]

@dataclass(frozen=True)
class TaskStats:
    task: Task[Any]
    name: str
    coroutine: str
    place: tuple[str, int] | None
    waits_for: object | None
    awaited_by: list[Task[Any]] = field(default_factory=list)

def loop_stats(loop: AbstractEventLoop | None = None) -> LoopStats: ...
def tasks(loop: AbstractEventLoop | None = None) -> list[TaskStats]: ...
def awaited_by(future: Future[Any], loop: AbstractEventLoop | None = None) -> list[Task[Any]]: ...
def awaited_by_chain(future: Future[Any], loop: AbstractEventLoop | None = None) -> list[Task[Any]]: ...
def on_slow_step(callback: Callable[[SlowStep], object], threshold: float = 0.1) -> Callable[[], None]: ...
def level(name: Literal["pulse", "flight", "deep"] | None = None) -> str: ...
def dump(path: str | PathLike[str]) -> int: ...
