from asyncio import AbstractEventLoop, Future, Task
from dataclasses import dataclass
from traceback import FrameSummary
from typing import Any, Literal

@dataclass(frozen=True)
class TaskStats:
    task: Task[Any]
    name: str
    coroutine: str
    state: Literal["running", "ready", "waiting"]
    where: FrameSummary | None
    waits_for: object
    awaited_by: tuple[Task[Any], ...]

def tasks(loop: AbstractEventLoop | None = None) -> list[TaskStats]: ...
def awaited_by(future: Future[Any]) -> tuple[Task[Any], ...]: ...
def awaited_by_chain(future: Future[Any]) -> list[Task[Any]]: ...
def where_of(task: Task[Any]) -> FrameSummary | None: ...
def name_of(task: Task[Any]) -> str: ...
