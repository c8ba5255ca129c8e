"""First thing in every Python of a suite's run: which loop asyncio makes (SUITES_LOOP), and a note of what was made (SUITES_LOOPS).

`stock` leaves everything as it is. `ferrio` leads what a test suite calls a loop by to ferrio's: policies and the names of asyncio's
classes. `native` puts ferrio's queues, locks, streams, … into asyncio as well. A library that derives a loop of its own from the
inside of asyncio's keeps the names of asyncio's classes (SUITES_NAMES=asyncio).
"""

import asyncio
import asyncio.base_events
import atexit
import collections
import os

mode = os.environ.get("SUITES_LOOP", "stock")
made = collections.Counter()


def count(cls, kind):
    init = cls.__init__

    def counting(self, *args, **kwargs):
        made[kind] += 1
        init(self, *args, **kwargs)

    cls.__init__ = counting


def tell_blockbuster():
    """blockbuster excepts from its ban what asyncio's own files do; ferrio's do the same."""
    try:
        from blockbuster.blockbuster import BlockBusterFunction
    except ImportError:
        return
    init = BlockBusterFunction.__init__

    def init_with_ferrio(self, *args, can_block_functions=None, **kwargs):
        can_block_functions = can_block_functions or []
        allowed = {name for file, names in can_block_functions if file.startswith("asyncio/") for name in names}
        # They go by other names here.
        others = {"_sock_sendfile_native_impl": "sock_sendfile", "_stop_serving": "close"}
        allowed |= {others[name] for name in allowed & others.keys()}
        files = [
            (f"ferrio/{file}.py", allowed) for file in ("event_loop", "coroutine_functions", "servers", "sendfile")
        ]
        init(self, *args, can_block_functions=[*can_block_functions, *files], **kwargs)

    BlockBusterFunction.__init__ = init_with_ferrio


count(asyncio.base_events.BaseEventLoop, "stock")

if mode != "stock":
    import ferrio

    ferrio.install(loop_only=mode == "ferrio")
    count(ferrio.EventLoop, "ferrio")

    class Named(type):
        """Calling the name makes a loop of ferrio's, of which it claims to be the class; what derives from it derives from ferrio's."""

        def __new__(meta, name, bases, namespace):
            if not any(isinstance(base, Named) for base in bases):
                return super().__new__(meta, name, bases, namespace)
            bases = tuple(ferrio.EventLoop if isinstance(base, Named) else base for base in bases)
            return type(name, bases, namespace)

        def __call__(cls, selector=None):
            return ferrio.new_event_loop()

        def __instancecheck__(cls, instance):
            return isinstance(instance, ferrio.EventLoop)

    class EventLoop(asyncio.AbstractEventLoop, metaclass=Named):
        pass

    if os.environ.get("SUITES_NAMES") != "asyncio":
        asyncio.SelectorEventLoop = asyncio.EventLoop = EventLoop
        asyncio.DefaultEventLoopPolicy = ferrio.EventLoopPolicy
    tell_blockbuster()


process = os.getpid()


@atexit.register
def note():
    if "SUITES_LOOPS" in os.environ and os.getpid() == process:
        with open(os.environ["SUITES_LOOPS"], "a") as file:
            file.write(f"{made['stock']} {made['ferrio']}\n")
