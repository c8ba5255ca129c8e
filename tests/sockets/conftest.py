"""The two loops that these tests compare: what holds on asyncio's must hold on ferrio's."""

import asyncio
import socket

import ferrio
import pytest


@pytest.fixture(params=[asyncio.SelectorEventLoop, ferrio.EventLoop], ids=["asyncio", "ferrio"])
def new_loop(request):
    """Makes loops of one kind, and closes them."""
    loops = []

    def new_loop():
        loops.append(request.param())
        return loops[-1]

    yield new_loop
    for loop in loops:
        loop.close()


@pytest.fixture
def run(new_loop):
    """Runs a coroutine function that takes the loop, on a fresh loop; it has ten seconds."""

    def run(main, debug=False):
        loop = new_loop()
        loop.set_debug(debug)
        return loop.run_until_complete(asyncio.wait_for(main(loop), 10))

    return run


@pytest.fixture
def run_on_ferrio():
    """The same on ferrio's loop alone, where asyncio's does something else."""

    def run(main):
        loop = ferrio.EventLoop()
        try:
            return loop.run_until_complete(asyncio.wait_for(main(loop), 10))
        finally:
            loop.close()

    return run


@pytest.fixture
def far(tmp_path):
    """A Unix socket that does not read."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(str(tmp_path / "far"))
        yield sock


async def turns(count=5):
    """Let the loop turn a few times."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def can_pause(request):
    """For tests that pause an endpoint."""
    known = asyncio.selector_events._SelectorDatagramTransport.is_reading is not asyncio.ReadTransport.is_reading
    if not known and "asyncio" in request.node.name:
        pytest.skip("early versions of 3.11 have endpoints that cannot pause")
