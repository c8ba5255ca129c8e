"""Every test here runs with asyncio's own classes and with ferrio's, on asyncio's loop and on ferrio's: all four do the same."""

import asyncio

import ferrio
import pytest

NAMESPACES = {"asyncio": asyncio, "ferrio": ferrio}
LOOPS = {"stock loop": asyncio.SelectorEventLoop, "ferrio's loop": ferrio.new_event_loop}


@pytest.fixture(params=NAMESPACES.values(), ids=NAMESPACES.keys())
def namespace(request):
    """The module whose classes are tested."""
    return request.param


@pytest.fixture(params=LOOPS.values(), ids=LOOPS.keys())
def run(request):
    """Runs a coroutine to its end, or fails after a while."""

    def run(coroutine):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(coroutine, 10))

    return run
