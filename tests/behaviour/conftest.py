"""The loops under test, and the time every test is given.

`FERRIO_TEST_LOOPS` chooses the loops: `stock`, `ferrio` (both by default) or any `module:factory`, separated by commas. Pointing
the suite at a third loop is how to see that its tests can fail.
"""

import asyncio
import faulthandler
import gc
import importlib
import os
import ssl
import sys

import pytest
import trustme

from ..tcp import tcp_pair
from .support import Loop

SECONDS_PER_TEST = 30


def _loop_named(name: str) -> Loop:
    if name == "stock":
        return Loop(name, asyncio.SelectorEventLoop, "from asyncio import SelectorEventLoop as new_event_loop")
    module, _, attribute = (f"{name}:new_event_loop" if ":" not in name else name).partition(":")
    factory = getattr(importlib.import_module(module), attribute)
    return Loop(module, factory, f"from {module} import {attribute} as new_event_loop")


LOOPS = [_loop_named(name) for name in os.environ.get("FERRIO_TEST_LOOPS", "stock,ferrio").split(",")]


def pytest_configure(config):
    config.real_stderr = os.dup(sys.stderr.fileno())  # Taken before pytest starts to capture.
    config.addinivalue_line("markers", "stock_differs(reason, when=True): CPython's loop is known to fail this test")
    config.addinivalue_line("markers", "ferrio_only(reason): says something about ferrio that has no meaning elsewhere")


def pytest_generate_tests(metafunc):
    if "loop_under_test" not in metafunc.fixturenames:
        return
    only = metafunc.definition.get_closest_marker("ferrio_only")
    chosen = [loop for loop in LOOPS if not only or loop.name == "ferrio"] or LOOPS[:1]
    metafunc.parametrize("loop_under_test", [pytest.param(loop, id=loop.name) for loop in chosen])


def pytest_collection_modifyitems(items):
    here = os.path.dirname(__file__)
    for item in items:
        if not str(item.path).startswith(here):
            continue
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS_PER_TEST, method="signal"))
        loop = item.callspec.params.get("loop_under_test") if hasattr(item, "callspec") else None
        name = loop.name if loop else None
        only = item.get_closest_marker("ferrio_only")
        if only and "ferrio" not in [loop.name for loop in LOOPS]:
            item.add_marker(pytest.mark.skip(reason=f"ferrio only: {only.args[0]}"))
        differs = item.get_closest_marker("stock_differs")
        if differs and name == "stock" and differs.kwargs.get("when", True):
            # Strict: the day the stock loop passes, the mark has to go.
            item.add_marker(pytest.mark.xfail(reason=differs.args[0], strict=True))


@pytest.fixture(autouse=True, scope="session")
def modules_out_of_the_collectors_way():
    """Many tests collect garbage. What was imported until now is none, and need not be looked at each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def watchdog(request):
    """Kill the run, showing every thread's stack, when a test hangs where no exception reaches.

    pytest-timeout raises inside the test; a loop that swallows that exception, or never returns to Python, meets this one.
    """
    seconds = request.node.get_closest_marker("timeout").args[0]
    faulthandler.dump_traceback_later(2 * seconds, exit=True, file=request.config.real_stderr)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def new_event_loop(loop_under_test):
    """The factory of the loop under test."""
    return loop_under_test.factory


@pytest.fixture
def errors():
    """Contexts that reached the loop's exception handler. A test that provokes one takes it out of the list."""
    return []


@pytest.fixture
def loop(new_event_loop, errors):
    """A fresh loop, closed at the end. Whatever reaches its exception handler and is not expected fails the test."""
    loop = new_event_loop()
    loop.set_exception_handler(lambda loop, context: errors.append(context))
    try:
        yield loop
        if not loop.is_closed():
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    gc.collect()
    assert errors == []


@pytest.fixture
def run(loop):
    """Run a coroutine on the loop under test."""
    return loop.run_until_complete


@pytest.fixture
def sockets():
    """A pair of connected TCP sockets, `(ours, peer)`: ours does not block, the peer does, for five seconds."""
    ours, peer = tcp_pair()
    ours.setblocking(False)
    peer.settimeout(5)
    with ours, peer:
        yield ours, peer


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def certificate(authority):
    return authority.issue_cert("localhost", "127.0.0.1")


@pytest.fixture
def server_tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
