from asyncio import AbstractEventLoop, Task
from collections.abc import Callable
from dataclasses import dataclass
from logging import Logger
from traceback import StackSummary
from typing import Any, Self

logger: Logger
SHORTEST: float

@dataclass(frozen=True)
class SlowStep:
    loop: AbstractEventLoop
    task: Task[Any] | None
    name: str
    number: int
    seconds: float
    stack: StackSummary
    is_over: bool

class SlowStepWatch:
    def __init__(self, callback: Callable[[SlowStep], object], threshold: float) -> None: ...
    def cancel(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_error: object) -> None: ...

def on_slow_step(callback: Callable[[SlowStep], object], threshold: float = 0.1) -> SlowStepWatch: ...
def watch_loop(loop: AbstractEventLoop, seconds: object) -> bool: ...
