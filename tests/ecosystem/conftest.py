"""Real programs on the loop under test.

The loop is named by its factory: FERRIO_TEST_FACTORY=module:attribute, `ferrio:new_event_loop` by default. Every test
says from inside that this loop is the one that runs: in this process with `check_loop`, in a server process by what the
server answers. `FERRIO_TEST_FACTORY=asyncio:new_event_loop` shows that the tests themselves are right.

FERRIO_TEST_NATIVE=1: with ferrio's queues, locks, streams, gather, … in the places of asyncio's, here and in the programs.
"""

import asyncio
import faulthandler
import importlib
import os
import ssl

import pytest
import trustme
from ferrio import _install
from programs import Program, free_port

FACTORY = os.environ.get("FERRIO_TEST_FACTORY", "ferrio:new_event_loop")

NATIVE = os.environ.get("FERRIO_TEST_NATIVE") == "1"
if NATIVE:
    directory = os.path.join(os.path.dirname(__file__), "installed")
    os.environ["PYTHONPATH"] = os.pathsep.join([directory, *filter(None, [os.environ.get("PYTHONPATH")])])
    # Before a test's imports, so that `from asyncio import …` gives ferrio's.
    _install.install_natives()

# A test that takes longer hangs, which is a failure. Python code is interrupted; if native code does not let that happen,
# the whole run ends soon after with the stacks of all threads.
LIMIT, HARD_LIMIT = 60, 90


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(os.path.dirname(__file__)):
            item.add_marker(pytest.mark.timeout(LIMIT, method="signal"))


@pytest.fixture(scope="session")
def terminal(pytestconfig):
    """Standard error as it was before pytest captured it."""
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        return os.fdopen(os.dup(2), "w")


@pytest.fixture(autouse=True)
def hard_limit(terminal):
    faulthandler.dump_traceback_later(HARD_LIMIT, exit=True, file=terminal)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def factory_spec():
    """The factory as programs take it on their command line: module:attribute."""
    return FACTORY


@pytest.fixture(scope="session")
def factory():
    module, _, attribute = FACTORY.partition(":")
    return getattr(importlib.import_module(module), attribute)


@pytest.fixture(scope="session")
def loop_class(factory):
    loop = factory()
    loop.close()
    return type(loop)


@pytest.fixture(scope="session")
def loop_name(loop_class):
    """What a server process answers when it is asked for its loop."""
    return f"{loop_class.__module__}.{loop_class.__qualname__}"


@pytest.fixture
def check_loop(loop_class):
    """Called inside a coroutine or callback: the loop under test is the one running."""

    def check():
        assert type(asyncio.get_running_loop()) is loop_class

    return check


@pytest.fixture
def run(factory, check_loop):
    """Runs a coroutine on the loop under test."""

    async def checked(coroutine):
        check_loop()
        return await coroutine

    def run(coroutine):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(checked(coroutine))

    return run


@pytest.fixture
def program(tmp_path):
    """Starts programs and ends them with the test."""
    started = []

    def start(*command, **options):
        started.append(Program(command, **options))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture
def port():
    return free_port()


class Certificates:
    """A certificate for localhost and the authority that vouches for it, made for this run."""

    def __init__(self, directory):
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        self.authority, self.chain, self.key = (str(directory / name) for name in ("ca.pem", "chain.pem", "key.pem"))
        authority.cert_pem.write_to_path(self.authority)
        certificate.private_key_pem.write_to_path(self.key)
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(self.chain, append=True)

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context

    def client_context(self):
        return ssl.create_default_context(cafile=self.authority)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))
