from os import PathLike
from typing import Literal, TypeAlias

from ..event_loop import EventLoop
from .slow import SlowStep as SlowStep
from .slow import SlowStepWatch as SlowStepWatch
from .slow import on_slow_step as on_slow_step
from .statistics import LoopStats as LoopStats
from .statistics import Times as Times
from .statistics import loop_stats as loop_stats
from .waiting import TaskStats as TaskStats
from .waiting import awaited_by as awaited_by
from .waiting import awaited_by_chain as awaited_by_chain
from .waiting import tasks as tasks

__all__ = [
    "LoopStats", "SlowStep", "SlowStepWatch", "TaskStats", "Times", "awaited_by", "awaited_by_chain", "dump", "level",
    "loop_stats", "loops", "on_slow_step", "tasks",
]  # fmt: skip

_Level: TypeAlias = Literal["pulse", "flight", "deep"]

def loops() -> list[EventLoop]: ...
def level(wanted: _Level | None = None) -> Literal["off", "pulse", "flight", "deep"]: ...
def dump(path: str | PathLike[str]) -> int: ...
