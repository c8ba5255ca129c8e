from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ._ferrio import __version__ as __version__
from ._install import install as install
from ._install import uninstall as uninstall
from .event_loop import EventLoop as EventLoop
from .event_loop import new_event_loop as new_event_loop
from .policy import EventLoopPolicy as EventLoopPolicy
from .servers import Server as Server

__all__ = ["EventLoop", "Server", "__version__", "install", "new_event_loop", "run", "uninstall"]

_T = TypeVar("_T")

Loop = EventLoop

def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], AbstractEventLoop] | None = None,
) -> _T: ...
