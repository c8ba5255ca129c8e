"""Streams: what programs and libraries rely on, with asyncio's own classes and with ferrio's, on asyncio's loop and on ferrio's."""

import asyncio
import contextlib
import gc

import ferrio
import pytest

LOOPS = {"stock": asyncio.SelectorEventLoop, "ferrio": ferrio.new_event_loop}
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


@pytest.fixture(params=LOOPS.values(), ids=LOOPS)
def run(request):
    """Runs a coroutine on each loop; what it leaves to the loop's exception handler fails the test, unless it is expected."""
    reported = []

    def run(main, *, expect=()):
        async def guarded():
            asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
            return await asyncio.wait_for(main, 20)

        with asyncio.Runner(loop_factory=request.param) as runner:
            result = runner.run(guarded())
        gc.collect()
        assert [context["message"] for context in reported] == list(expect), reported
        return result

    run.reported = reported
    return run


@pytest.fixture(params=[asyncio, ferrio], ids=["asyncio", "ferrio"])
def streams(request):
    return request.param
