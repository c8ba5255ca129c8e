"""Tests of the loop, each run on asyncio's own loop and on ferrio's: the stock loop is the oracle."""

import asyncio
import ssl

import ferrio
import pytest
import trustme

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
