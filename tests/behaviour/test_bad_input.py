"""Bad input: every case raises on the loop under test what it raises on the stock loop of the same interpreter.

A case is a name and a function of an `Environment`. What it raises counts, whether at once, when awaited, or when the loop
comes to it; so does what it leaves to the exception handler. If the stock loop's message names the bad value, ours must too.
"""

import asyncio
import concurrent.futures
import contextlib
import inspect
import signal
import socket

import pytest

from .bad_input import BAD, NEGATIVE, TOKENS, Environment, coroutine_function, nothing
from .bad_input_to_loops import DELAYS, FACTORIES, NAMES, RUNNING, SCHEDULING, SIGNALS, WATCHERS
from .bad_input_to_transports import CONNECTIONS, DATAGRAMS, PIPES_AND_PROCESSES, SERVERS, SOCKETS, TRANSPORTS
from .support import LOCALHOST, Recorder

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # Coroutines that are refused are never awaited.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


CASES = (
    SCHEDULING
    | DELAYS
    | FACTORIES
    | RUNNING
    | WATCHERS
    | SOCKETS
    | CONNECTIONS
    | SERVERS
    | DATAGRAMS
    | TRANSPORTS
    | PIPES_AND_PROCESSES
    | SIGNALS
    | NAMES
)


def outcome(factory, case, debug):
    """`(type of the exception or None, types left to the handler, message)` of one case on a loop of its own."""
    e = Environment(factory, debug)

    async def main():
        result = case(e)
        if inspect.isawaitable(result):
            result = await asyncio.wait_for(result, 3)
            # A connection or server that was made after all goes away again.
            for thing in result if isinstance(result, tuple) else (result,):
                if hasattr(thing, "close") and not isinstance(thing, socket.socket):
                    thing.close()
        await asyncio.sleep(0.003)

    with e.stack:
        raised, message = None, ""
        try:
            e.loop.run_until_complete(main())
        except Exception as error:
            raised, message = type(error), str(error)
        return raised, sorted(kind.__name__ for kind in set(e.errors)), message


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("name", CASES)
def test_bad_input_raises_what_asyncio_raises(loop_under_test, name, debug):
    case = CASES[name]
    expected, expected_left, expected_message = outcome(asyncio.SelectorEventLoop, case, debug)
    got, got_left, message = outcome(loop_under_test.factory, case, debug)
    assert (got, got_left) == (expected, expected_left), f"{message!r}, where the stock loop says {expected_message!r}"
    if expected_message:
        assert message, f"no message, where the stock loop says {expected_message!r}"
    missing = [token for token in TOKENS if token in expected_message and token not in message]
    assert not missing, f"{message!r} does not name the value as the stock loop does: {expected_message!r}"


# A loop that is not running


def foreign_future(e):
    other = e.keep(asyncio.SelectorEventLoop())
    e.loop.run_until_complete(other.create_future())


def stopped_too_early(e):
    e.loop.call_soon(e.loop.stop)
    e.loop.run_until_complete(e.loop.create_future())


STANDING = {
    "run_until_complete of None": lambda e: e.loop.run_until_complete(None),
    "run_until_complete of a string": lambda e: e.loop.run_until_complete(BAD),
    "run_until_complete of a number": lambda e: e.loop.run_until_complete(NEGATIVE),
    "run_until_complete of a coroutine function": lambda e: e.loop.run_until_complete(coroutine_function),
    "run_until_complete of a future of another loop": foreign_future,
    "run_until_complete of nothing": lambda e: e.loop.run_until_complete(),
    "run_until_complete of a loop that is stopped": stopped_too_early,
    "run_forever with an argument": lambda e: e.loop.run_forever(1),
    "close twice": lambda e: (e.loop.close(), e.loop.close()),
    "close with an argument": lambda e: e.loop.close(1),
    "is_running of a closed loop": lambda e: (e.loop.close(), e.loop.is_running(), e.loop.is_closed()),
    "stop of a closed loop": lambda e: (e.loop.close(), e.loop.stop()),
    "time of a closed loop": lambda e: (e.loop.close(), e.loop.time()),
    "repr of a closed loop": lambda e: (e.loop.close(), repr(e.loop)),
    "get_debug of a closed loop": lambda e: (e.loop.close(), e.loop.get_debug()),
    "a second initialization": lambda e: type(e.loop)(1, 2, 3),
}


def awaited_on_another_loop(make):
    """The case of a coroutine method of a closed loop: awaited where it still can be."""

    def case(e):
        e.loop.close()
        other = e.keep(asyncio.SelectorEventLoop())

        async def main():
            result = make(e)
            if inspect.isawaitable(result):
                await asyncio.wait_for(result, 3)

        other.run_until_complete(main())

    return case


STANDING |= {
    f"{name} on a closed loop": awaited_on_another_loop(make)
    for name, make in {
        "call_soon": lambda e: e.loop.call_soon(nothing),
        "call_later": lambda e: e.loop.call_later(1, nothing),
        "call_at": lambda e: e.loop.call_at(1, nothing),
        "call_soon_threadsafe": lambda e: e.loop.call_soon_threadsafe(nothing),
        "create_future": lambda e: e.loop.create_future() and None,
        "create_task": lambda e: e.loop.create_task(e.coroutine()) and None,
        "run_in_executor": lambda e: e.loop.run_in_executor(None, nothing) and None,
        "add_reader": lambda e: e.loop.add_reader(e.connected, nothing),
        "add_writer": lambda e: e.loop.add_writer(e.connected, nothing),
        "remove_reader": lambda e: e.loop.remove_reader(e.connected),
        "remove_writer": lambda e: e.loop.remove_writer(e.connected),
        "add_signal_handler": lambda e: e.loop.add_signal_handler(signal.SIGUSR1, nothing),
        "remove_signal_handler": lambda e: e.loop.remove_signal_handler(signal.SIGUSR1),
        "sock_recv": lambda e: e.loop.sock_recv(e.connected, 10),
        "sock_accept": lambda e: e.loop.sock_accept(e.listener),
        "create_server": lambda e: e.loop.create_server(Recorder, LOCALHOST, 0),
        "create_unix_server": lambda e: e.loop.create_unix_server(Recorder, e.path()),
        "create_connection": lambda e: e.loop.create_connection(Recorder, sock=e.connected),
        "create_datagram_endpoint": lambda e: e.loop.create_datagram_endpoint(asyncio.DatagramProtocol, (LOCALHOST, 0)),
        "getaddrinfo": lambda e: e.loop.getaddrinfo("a.name.invalid", 80),
        "set_default_executor": lambda e: e.loop.set_default_executor(
            e.stack.enter_context(concurrent.futures.ThreadPoolExecutor())
        ),
        "set_exception_handler": lambda e: e.loop.set_exception_handler(nothing),
        "set_task_factory": lambda e: e.loop.set_task_factory(None),
        "set_debug": lambda e: e.loop.set_debug(True),
        "shutdown_asyncgens": lambda e: e.loop.shutdown_asyncgens(),
        "shutdown_default_executor": lambda e: e.loop.shutdown_default_executor(),
        "run_until_complete": lambda e: e.loop.run_until_complete(e.coroutine()),
        "run_forever": lambda e: e.loop.run_forever(),
    }.items()
}


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("name", STANDING)
def test_bad_input_to_a_loop_that_stands_raises_what_asyncio_raises(loop_under_test, name, debug):
    def outcome(factory):
        e = Environment(factory, debug)
        with e.stack:
            try:
                STANDING[name](e)
            except Exception as error:
                return type(error), bool(str(error)), [token for token in TOKENS if token in str(error)]
            return None

    assert outcome(loop_under_test.factory) == outcome(asyncio.SelectorEventLoop)


def test_a_closed_loop_says_so(loop_under_test):
    loop = loop_under_test.factory()
    loop.close()
    for act in (lambda: loop.call_soon(nothing), loop.run_forever, lambda: loop.call_later(1, nothing)):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            act()


def test_two_loops_in_one_thread_do_not_run_at_once(loop_under_test):
    outer, inner = loop_under_test.factory(), loop_under_test.factory()

    async def main():
        with pytest.raises(RuntimeError, match="Cannot run the event loop while another loop is running"):
            inner.run_forever()
        with pytest.raises(RuntimeError, match="This event loop is already running"):
            outer.run_forever()

    with contextlib.closing(outer), contextlib.closing(inner):
        outer.run_until_complete(main())


def test_a_loop_running_in_one_thread_cannot_be_run_or_closed_by_another(loop_under_test):
    loop = loop_under_test.factory()
    caught = []

    def other_thread():
        for act in (loop.close, loop.run_forever):
            try:
                act()
            except RuntimeError as error:
                caught.append(str(error))

    async def main():
        await loop.run_in_executor(None, other_thread)
        await loop.shutdown_default_executor()

    with contextlib.closing(loop):
        loop.run_until_complete(main())
    assert caught == ["Cannot close a running event loop", "This event loop is already running"]
