from asyncio import AbstractEventLoop
from asyncio import Runner as Runner
from asyncio import get_event_loop as get_event_loop
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["Runner", "get_event_loop", "run"]

_T = TypeVar("_T")

def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], AbstractEventLoop] | None = None,
) -> _T: ...
