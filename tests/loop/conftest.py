"""Tests of the loop, each run on asyncio's own loop and on ferrio's: the stock loop is the oracle."""

import asyncio
import ssl
import sysconfig
import threading
import time

import ferrio
import pytest
import trustme

takes_turns = pytest.mark.skipif(
    sysconfig.get_config_var("Py_GIL_DISABLED"), reason="threads do not take turns: ferrio refuses, and asyncio breaks"
)

FACTORIES = {"stock": asyncio.SelectorEventLoop, "ferrio": ferrio.new_event_loop}


@pytest.fixture(params=FACTORIES)
def new_loop(request):
    """What makes a loop: asyncio's, then ferrio's."""
    return FACTORIES[request.param]


@pytest.fixture
def loop(new_loop):
    """A loop of its own for each test, closed afterwards."""
    loop = new_loop()
    yield loop
    if not loop.is_closed():
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.fixture
def running(loop):
    """The loop, run by another thread, with nothing to do."""
    started = threading.Event()
    loop.call_soon(started.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    started.wait(10)
    time.sleep(0.1)
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def run(new_loop):
    """``asyncio.run`` on the loop under test."""

    def run(main, **keywords):
        with asyncio.Runner(loop_factory=new_loop, **keywords) as runner:
            return runner.run(main)

    return run


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def server_tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context
