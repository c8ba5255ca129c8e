"""ferrio: asyncio, the whole of it, implemented in Rust.

Importing it changes nothing in asyncio. Three ways to use it::

    ferrio.run(main())
    asyncio.run(main(), loop_factory=ferrio.new_event_loop)
    python -m ferrio script.py
"""

from ._ferrio import __version__
from ._install import install, uninstall
from .event_loop import EventLoop, new_event_loop
from .servers import Server

__all__ = ["EventLoop", "Server", "__version__", "install", "new_event_loop", "run", "uninstall"]

#: The class under the name that other loops give it.
Loop = EventLoop


def run(main, *, debug=None, loop_factory=None):
    """Run a coroutine on a new ferrio loop, as ``asyncio.run`` does; returns its result.

    :raises RuntimeError: if a loop runs in this thread already.
    """
    import asyncio

    if asyncio._get_running_loop() is not None:
        # Before there is a loop that could not be shut down.
        raise RuntimeError("ferrio.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory or new_event_loop) as runner:
        return runner.run(main)


def __getattr__(name):
    # Only if somebody asks: policies are deprecated since CPython 3.14 and gone from 3.16 on.
    if name == "EventLoopPolicy":
        from .policy import EventLoopPolicy

        return EventLoopPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
