"""Bad input to a running loop: callbacks, delays, tasks, watched descriptors, signals and names."""

import asyncio
import concurrent.futures
import fractions
import io
import signal
import socket
import sys
import types
from decimal import Decimal

from .bad_input import BAD, HUGE, NEGATIVE, coroutine_function, nothing
from .support import LOCALHOST


class BadFileno:
    def __init__(self, value):
        self.value = value

    def fileno(self):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


SCHEDULING = {}
for method, leading in (
    ("call_soon", ()),
    ("call_soon_threadsafe", ()),
    ("call_later", (0.001,)),
    ("call_at", (0.001,)),
):

    def scheduling(arguments, keywords=types.MappingProxyType({}), method=method, leading=leading):
        return lambda e: getattr(e.loop, method)(*leading, *arguments, **keywords)

    SCHEDULING |= {
        f"{method} without a callback": scheduling(()),
        f"{method} of None": scheduling((None,)),
        f"{method} of a string": scheduling((BAD,)),
        f"{method} of a number": scheduling((NEGATIVE,)),
        f"{method} of a coroutine function": scheduling((coroutine_function,)),
        f"{method} of a coroutine": lambda e, f=scheduling: f((e.coroutine(),))(e),
        f"{method} with a context that is none": scheduling((nothing,), {"context": BAD}),
        f"{method} with a context that is a number": scheduling((nothing,), {"context": 5}),
        f"{method} with an unknown keyword": scheduling((nothing,), {"unknown": 1}),
        f"{method} with the callback by keyword": scheduling((), {"callback": nothing}),
        f"{method} of a callback that takes no argument": scheduling((lambda: None, 1)),
        f"{method} of a class that cannot be made": scheduling((int, BAD)),
        f"{method} with very many arguments": scheduling((nothing, *range(10_000))),
    }

DELAYS = {
    "call_later without anything": lambda e: e.loop.call_later(),
    "call_at without anything": lambda e: e.loop.call_at(),
    "call_later with None": lambda e: e.loop.call_later(None, nothing),
    "call_later with a string": lambda e: e.loop.call_later(BAD, nothing),
    "call_later with an object": lambda e: e.loop.call_later(object(), nothing),
    "call_later with a complex number": lambda e: e.loop.call_later(1j, nothing),
    "call_later with a decimal": lambda e: e.loop.call_later(Decimal("0.001"), nothing),
    "call_later with a fraction": lambda e: e.loop.call_later(fractions.Fraction(1, 1000), nothing),
    "call_later with a truth value": lambda e: e.loop.call_later(False, nothing),
    "call_later with an integer beyond floats": lambda e: e.loop.call_later(10**400, nothing),
    "call_later with a negative number": lambda e: e.loop.call_later(NEGATIVE, nothing),
    "call_later with minus infinity": lambda e: e.loop.call_later(float("-inf"), nothing),
    "call_later with infinity": lambda e: e.loop.call_later(float("inf"), nothing),
    "call_later with a huge number": lambda e: e.loop.call_later(1e308, nothing),
    "call_at None": lambda e: e.loop.call_at(None, nothing),
    "call_at a string": lambda e: e.loop.call_at(BAD, nothing),
    "call_at a fraction": lambda e: e.loop.call_at(fractions.Fraction(1, 1000), nothing),
    "call_at infinity": lambda e: e.loop.call_at(float("inf"), nothing),
    "call_at minus infinity": lambda e: e.loop.call_at(float("-inf"), nothing),
    "sleep for a string": lambda e: asyncio.sleep(BAD),
    "sleep for None": lambda e: asyncio.sleep(None),
    "a handle cancelled with an argument": lambda e: e.loop.call_soon(nothing).cancel(1),
    "a timer handle compared with a number": lambda e: e.loop.call_later(1, nothing) < 1,
    "a timer handle equal to a number": lambda e: e.loop.call_later(1, nothing) == 1,
}

FACTORIES = {
    "set_task_factory of a string": lambda e: e.loop.set_task_factory(BAD),
    "set_exception_handler of a string": lambda e: e.loop.set_exception_handler(BAD),
    "set_default_executor of a string": lambda e: e.loop.set_default_executor(BAD),
    "set_default_executor of None": lambda e: e.loop.set_default_executor(None),
    "set_default_executor of a process pool": lambda e: e.loop.set_default_executor(concurrent.futures.Executor()),
    "run_in_executor without a function": lambda e: e.loop.run_in_executor(None),
    "run_in_executor of a string": lambda e: e.loop.run_in_executor(None, BAD),
    "run_in_executor of a coroutine function": lambda e: e.loop.run_in_executor(None, coroutine_function),
    "run_in_executor of a coroutine": lambda e: e.loop.run_in_executor(None, e.coroutine()),
    "run_in_executor with an executor that is none": lambda e: e.loop.run_in_executor(BAD, nothing),
    "run_in_executor of a failing function": lambda e: e.loop.run_in_executor(None, int, BAD),
    "create_task of None": lambda e: e.loop.create_task(None),
    "create_task of a string": lambda e: e.loop.create_task(BAD),
    "create_task of a function": lambda e: e.loop.create_task(nothing),
    "create_task of a coroutine function": lambda e: e.loop.create_task(coroutine_function),
    "create_task of a future": lambda e: e.loop.create_task(e.loop.create_future()),
    "create_task with a number for a name": lambda e: e.loop.create_task(e.coroutine(), name=5),
    "create_task with an unknown keyword": lambda e: e.loop.create_task(e.coroutine(), unknown=1),
    "create_future with an argument": lambda e: e.loop.create_future(1),
    "call_exception_handler without a context": lambda e: e.loop.call_exception_handler(),
    "default_exception_handler of a string": lambda e: e.loop.default_exception_handler(BAD),
    "shutdown_default_executor with a string for a timeout": lambda e: e.loop.shutdown_default_executor(BAD),
    "set_debug without a value": lambda e: e.loop.set_debug(),
}
if sys.version_info < (3, 12):
    # ferrio takes the timeout on every version.
    del FACTORIES["shutdown_default_executor with a string for a timeout"]

RUNNING = {
    "run_forever while running": lambda e: e.loop.run_forever(),
    "run_until_complete while running": lambda e: e.loop.run_until_complete(e.loop.create_future()),
    "close while running": lambda e: e.loop.close(),
    "stop with an argument": lambda e: e.loop.stop(1),
}


def run_another_loop(e):
    other = e.keep(asyncio.SelectorEventLoop())
    other.run_forever()


RUNNING["run another loop inside"] = run_another_loop

WATCHERS = {}
for method in ("add_reader", "add_writer"):

    def watcher(make, method=method):
        return lambda e: getattr(e.loop, method)(make(e), nothing)

    WATCHERS |= {
        f"{method} of {name}": watcher(make)
        for name, make in {
            "a negative number": lambda e: NEGATIVE,
            "minus one": lambda e: -1,
            "a string": lambda e: BAD,
            "None": lambda e: None,
            "a float": lambda e: 1.5,
            "a number nobody opened": lambda e: 1_000_000,
            "a number too big for the kernel": lambda e: HUGE,
            "a number just too big for the kernel": lambda e: 2**31,
            "a closed socket": lambda e: e.closed,
            "a closed file": lambda e: e.closed_file,
            "a regular file": lambda e: e.file(),
            "a file that is none": lambda e: io.BytesIO(),
            "something whose fileno is a string": lambda e: BadFileno(BAD),
            "something whose fileno is negative": lambda e: BadFileno(NEGATIVE),
            "something whose fileno raises": lambda e: BadFileno(ZeroDivisionError()),
            "something whose fileno raises AttributeError": lambda e: BadFileno(AttributeError("inner")),
        }.items()
    }
    remove = method.replace("add", "remove")
    WATCHERS |= {
        f"{method} without a callback": lambda e, m=method: getattr(e.loop, m)(e.connected),
        f"{method} without anything": lambda e, m=method: getattr(e.loop, m)(),
        f"{method} with an unknown keyword": lambda e, m=method: getattr(e.loop, m)(e.connected, nothing, context=None),
        f"{remove} of a negative number": lambda e, m=remove: getattr(e.loop, m)(NEGATIVE),
        f"{remove} of a string": lambda e, m=remove: getattr(e.loop, m)(BAD),
        f"{remove} of None": lambda e, m=remove: getattr(e.loop, m)(None),
        f"{remove} of what was never added": lambda e, m=remove: getattr(e.loop, m)(e.connected),
        f"{remove} of a number nobody opened": lambda e, m=remove: getattr(e.loop, m)(1_000_000),
        f"{remove} of a number too big for the kernel": lambda e, m=remove: getattr(e.loop, m)(HUGE),
        f"{remove} of a closed socket": lambda e, m=remove: getattr(e.loop, m)(e.closed),
        f"{remove} without anything": lambda e, m=remove: getattr(e.loop, m)(),
    }

    async def of_a_transport(e, method=method):
        transport = await e.transport()
        getattr(e.loop, method)(transport.get_extra_info("socket").fileno(), nothing)

    async def remove_of_a_transport(e, method=remove):
        transport = await e.transport()
        getattr(e.loop, method)(transport.get_extra_info("socket").fileno())

    WATCHERS |= {
        f"{method} of a transport's descriptor": of_a_transport,
        f"{remove} of a transport's descriptor": remove_of_a_transport,
    }


def failing_once(e):
    ours, peer = e.pair()
    peer.send(b"x")

    def fail():
        e.loop.remove_reader(ours)
        raise ZeroDivisionError

    e.loop.add_reader(ours, fail)


WATCHERS["add_reader of a callback that fails"] = failing_once


SIGNALS = {
    **{
        f"{method} of {name}": lambda e, method=method, value=value, more=more: getattr(e.loop, method)(value, *more)
        for method, more in (("add_signal_handler", (nothing,)), ("remove_signal_handler", ()))
        for name, value in (
            ("a string", BAD),
            ("None", None),
            ("zero", 0),
            ("a negative number", NEGATIVE),
            ("a number too big", 10_000),
            ("a huge number", HUGE),
            ("a float", 1.5),
            ("SIGKILL", signal.SIGKILL),
            ("SIGSTOP", signal.SIGSTOP),
            ("a reserved number", 32),
        )
    },
    "remove_signal_handler of what was never added": lambda e: e.loop.remove_signal_handler(signal.SIGUSR1),
    "add_signal_handler without a callback": lambda e: e.loop.add_signal_handler(signal.SIGUSR1),
    "add_signal_handler of a coroutine function": lambda e: e.loop.add_signal_handler(
        signal.SIGUSR1, coroutine_function
    ),
    "add_signal_handler of a coroutine": lambda e: e.loop.add_signal_handler(signal.SIGUSR1, e.coroutine()),
}

NAMES = {
    "getaddrinfo without a port": lambda e: e.loop.getaddrinfo(LOCALHOST),
    "getaddrinfo of a number": lambda e: e.loop.getaddrinfo(5, 80),
    "getaddrinfo with an object for a port": lambda e: e.loop.getaddrinfo(LOCALHOST, object()),
    "getaddrinfo with a float for a port": lambda e: e.loop.getaddrinfo(LOCALHOST, 1.5),
    "getaddrinfo with a huge port": lambda e: e.loop.getaddrinfo(LOCALHOST, HUGE),
    "getaddrinfo with a string for a family": lambda e: e.loop.getaddrinfo(LOCALHOST, 80, family=BAD),
    "getaddrinfo with a family that is none": lambda e: e.loop.getaddrinfo(LOCALHOST, 80, family=12345),
    "getaddrinfo with a type that is none": lambda e: e.loop.getaddrinfo(LOCALHOST, 80, type=12345),
    "getaddrinfo with flags that are none": lambda e: e.loop.getaddrinfo(LOCALHOST, 80, flags=0x40000000),
    "getaddrinfo of a host with a NUL": lambda e: e.loop.getaddrinfo("a\0b", 80),
    "getaddrinfo of a surrogate": lambda e: e.loop.getaddrinfo("\udc80", 80),
    "getaddrinfo of a label too long": lambda e: e.loop.getaddrinfo("x" * 64 + "ä", 80),
    "getaddrinfo of nothing at all": lambda e: e.loop.getaddrinfo(None, None),
    "getaddrinfo with a family by position": lambda e: e.loop.getaddrinfo(LOCALHOST, 80, socket.AF_INET),
    "getnameinfo of a string": lambda e: e.loop.getnameinfo(BAD),
    "getnameinfo of None": lambda e: e.loop.getnameinfo(None),
    "getnameinfo of a host alone": lambda e: e.loop.getnameinfo((LOCALHOST,)),
    "getnameinfo with a string for a port": lambda e: e.loop.getnameinfo((LOCALHOST, BAD)),
    "getnameinfo with a string for flags": lambda e: e.loop.getnameinfo((LOCALHOST, 80), BAD),
    "getnameinfo of a name": lambda e: e.loop.getnameinfo(("not.numeric.invalid.", 80), socket.NI_NUMERICHOST),
    "getnameinfo with a huge flow": lambda e: e.loop.getnameinfo(("::1", 80, 2**40, 0)),
}
