"""ferrio: asyncio, the whole of it, implemented in Rust.

Importing it changes nothing in asyncio. Three ways to use it::

    ferrio.run(main())
    asyncio.run(main(), loop_factory=ferrio.new_event_loop)
    python -m ferrio script.py
"""

from ._ferrio import __version__
from .event_loop import EventLoop

__all__ = ["EventLoop", "__version__", "install", "new_event_loop", "run", "uninstall"]

#: The class under the name that other loops give it.
Loop = EventLoop


def new_event_loop():
    """A new loop: what every ``loop_factory`` parameter wants."""
    return EventLoop()


def run(main, *, debug=None, loop_factory=None):
    """Run a coroutine on a new ferrio loop, as ``asyncio.run`` does; returns its result.

    :raises RuntimeError: if a loop runs in this thread already.
    """
    import asyncio

    with asyncio.Runner(debug=debug, loop_factory=loop_factory or new_event_loop) as runner:
        return runner.run(main)


def __getattr__(name):
    # Policies are gone from CPython 3.16 on; here they are looked up only if somebody asks.
    if name in {"EventLoopPolicy", "install", "uninstall"}:
        from . import policy

        return getattr(policy, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
