"""Points CPython's own asyncio tests to another event loop.

The tests make their loops in a handful of ways, and each way is led to the factory here, before any test module is imported:

- `asyncio.new_event_loop()`, `asyncio.run`, `Runner`, `IsolatedAsyncioTestCase`: through the default policy;
- `asyncio.SelectorEventLoop(...)`, `asyncio.EventLoop()`, and `asyncio.BaseEventLoop()` with its methods mocked: through the name;
- `self.new_test_loop()` of the suite's own TestCase: through that method, unless the test passes a generator, which is
  the script of a simulated clock that only the suite's TestLoop has.

Where a helper of the suite reads something private that it could do without, the helper is replaced (`point_helpers`).

Nothing inside asyncio itself is changed but the default policy's factory: the modules of asyncio refer to their loop classes by
names of their own. Every loop made is counted, so that a class of tests that the pointing missed can be told.
"""

import asyncio
import asyncio.base_events
import asyncio.unix_events
import importlib


class LoopCounter:
    """How many loops of the factory, and how many of CPython's own classes, were made."""

    def __init__(self):
        self.factory = 0
        self.stock = 0


def resolve(factory):
    """The callable that `package.module:name` means."""
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name or "new_event_loop")


def is_stock(factory):
    """Whether the factory is CPython's own: then there is nothing to point, only to count."""
    return factory.split(":")[0].split(".")[0] == "asyncio"


def point(factory):
    """Leads the tests to the loops of `factory` (`package.module:name`) and returns the counter of loops."""
    counter = LoopCounter()
    make = resolve(factory)
    _count_stock_loops(counter)

    def new_loop():
        counter.factory += 1
        return make()

    if is_stock(factory):
        return counter

    probe = make()
    loop_class = type(probe)
    probe.close()

    class PointedLoop(type):
        """What `asyncio.SelectorEventLoop` is during the tests: calling it makes a loop of the factory, of which it claims to be the class."""

        def __call__(cls, selector=None):
            # The tests that vary the selector ask for the same foreign loop.
            return new_loop()

        def __instancecheck__(cls, instance):
            return isinstance(instance, loop_class)

    class EventLoop(asyncio.AbstractEventLoop, metaclass=PointedLoop):
        pass

    asyncio.unix_events._UnixDefaultEventLoopPolicy._loop_factory = staticmethod(new_loop)
    asyncio.SelectorEventLoop = asyncio.BaseEventLoop = EventLoop
    if hasattr(asyncio, "EventLoop"):  # 3.13
        asyncio.EventLoop = EventLoop
    _point_suite_utils(new_loop, loop_class)
    return counter


def install_natives():
    """Puts ferrio's queues, locks, streams, … in the places of asyncio's, as `ferrio.install()` does. The loop is led elsewhere."""
    from ferrio._install import install_natives

    install_natives()


def point_helpers(module):
    """Frees the helpers of a test module from private attributes, after it has been imported."""
    if hasattr(module, "GatherTestsBase"):
        # It runs the loop for as long as BaseEventLoop's `_ready` is not empty. No test of gather() takes more than a few turns.
        def run_loop(self, loop):
            for _ in range(10):
                module.test_utils.run_briefly(loop)

        module.GatherTestsBase._run_loop = run_loop


def _count_stock_loops(counter):
    init = asyncio.base_events.BaseEventLoop.__init__

    def counting_init(self, *args, **kwargs):
        counter.stock += 1
        init(self, *args, **kwargs)

    asyncio.base_events.BaseEventLoop.__init__ = counting_init


def _point_suite_utils(new_loop, loop_class):
    from test.test_asyncio import utils

    stock_new_test_loop = utils.TestCase.new_test_loop
    stock_close_loop = utils.TestCase.close_loop

    def new_test_loop(self, gen=None):
        if gen is not None:
            return stock_new_test_loop(self, gen)
        loop = new_loop()
        self.set_event_loop(loop)
        return loop

    def close_loop(loop):
        # The suite's own insists on BaseEventLoop's private `_default_executor`, to wait for its threads.
        if not isinstance(loop, loop_class):
            stock_close_loop(loop)
        else:
            # A test may have spoilt the loop's `call_soon`: only one that has threads runs once more.
            if not loop.is_closed() and getattr(loop, "_default_executor", True) is not None:
                loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    utils.TestCase.new_test_loop = new_test_loop
    utils.TestCase.close_loop = staticmethod(close_loop)
