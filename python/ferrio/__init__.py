"""ferrio: asyncio, the whole of it, implemented in Rust.

Importing it changes nothing in asyncio. The ways to use it::

    import ferrio as asyncio                    # every name of asyncio; where ferrio has its own, that one
    ferrio.run(main())                          # asyncio as it is, on ferrio's loop
    asyncio.run(main(), loop_factory=ferrio.new_event_loop)
    ferrio.install()                            # ferrio's loop, queues, locks, … for all that says `asyncio`
    python -m ferrio script.py                  # the same from outside
"""

import asyncio as _asyncio
import sys as _sys

# All names first, so that what ferrio has of its own takes their places.
from asyncio import *

from . import locks, queues, runners, streams, subprocess, taskgroups, tasks, timeouts
from ._ferrio import __version__
from ._install import install, uninstall
from .event_loop import EventLoop, new_event_loop
from .locks import *
from .queues import *
from .runners import *
from .servers import Server
from .streams import *
from .subprocess import *
from .taskgroups import *
from .tasks import *
from .timeouts import *

__all__ = ["EventLoop", "Server", "__version__", "install", "new_event_loop", "uninstall"]
__all__ += {
    *_asyncio.__all__,
    *locks.__all__,
    *queues.__all__,
    *runners.__all__,
    *streams.__all__,
    *subprocess.__all__,
    *taskgroups.__all__,
    *tasks.__all__,
    *timeouts.__all__,
} - {*__all__}

#: The class under the name that other loops give it.
Loop = EventLoop

# asyncio's submodules, under their names here: `ferrio.subprocess` is a module of ferrio or asyncio's own.
for _name, _module in list(_sys.modules.items()):
    _package, _, _name = _name.partition(".")
    if _package == "asyncio" and _name and f"{__name__}.{_name}" not in _sys.modules:
        _sys.modules[f"{__name__}.{_name}"] = globals()[_name] = _module
del _name, _module, _package


def __getattr__(name):
    # Only if somebody asks: policies are deprecated since CPython 3.14 and gone from 3.16 on.
    if name == "EventLoopPolicy":
        from .policy import EventLoopPolicy

        return EventLoopPolicy
    if not name.startswith("_") and hasattr(_asyncio, name):
        # A name that asyncio, too, gives only when asked (the classes of policies).
        return getattr(_asyncio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
