"""Bad input: every case below raises on the loop under test what it raises on the stock loop of the same interpreter.

A case is a name and a function of an `Environment`. What it raises counts, whether at once, when awaited, or when the loop
comes to it; so does what it leaves to the exception handler. If the stock loop's message names the bad value, ours must too.
"""

import asyncio
import concurrent.futures
import contextlib
import fractions
import inspect
import io
import os
import signal
import socket
import ssl
import sys
import tempfile
import types
from decimal import Decimal

import pytest

from .support import LOCALHOST, Recorder, turns

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # Coroutines that are refused are never awaited.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# Values that are easy to find again in a message.
BAD = "a bad value"
NEGATIVE = -7777
HUGE = 2**70
TOKENS = [repr(BAD), str(NEGATIVE), str(HUGE)]


def nothing(*args):
    """A callback that does nothing."""


async def coroutine_function():
    """A coroutine function, which is no callback."""


class Environment:
    """A loop, and what the cases need around it. Everything is closed at the end."""

    def __init__(self, factory, debug):
        self.stack = contextlib.ExitStack()
        self.loop = factory()
        self.stack.callback(self.loop.close)
        self.loop.set_debug(debug)
        self.errors = []
        self.loop.set_exception_handler(lambda loop, context: self.errors.append(type(context.get("exception"))))
        self.coroutines = []

    def keep(self, thing):
        self.stack.callback(thing.close)
        return thing

    def coroutine(self):
        return self.keep(coroutine_function())

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, blocking=False):
        sock = self.keep(socket.socket(family, kind))
        sock.setblocking(blocking)
        return sock

    @property
    def udp(self):
        return self.socket(kind=socket.SOCK_DGRAM)

    @property
    def blocking(self):
        return self.pair(blocking=True)[0]

    def pair(self, blocking=False):
        pair = socket.socketpair()
        for sock in pair:
            self.keep(sock).setblocking(blocking)
        return pair

    @property
    def connected(self):
        return self.pair()[0]

    @property
    def closed(self):
        sock = self.socket()
        sock.close()
        return sock

    @property
    def listener(self):
        sock = self.keep(socket.create_server((LOCALHOST, 0)))
        sock.setblocking(False)
        return sock

    @property
    def unused_port(self):
        with socket.create_server((LOCALHOST, 0)) as sock:
            return sock.getsockname()[1]

    @property
    def tls(self):
        return ssl.create_default_context()

    @property
    def tls_server(self):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    @property
    def tls_socket(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        return self.keep(context.wrap_socket(self.connected, do_handshake_on_connect=False))

    def file(self, content=b"content"):
        file = self.keep(tempfile.TemporaryFile())
        file.write(content)
        file.flush()
        return file

    @property
    def closed_file(self):
        file = self.file()
        file.close()
        return file

    def path(self, name="name"):
        return os.path.join(self.stack.enter_context(tempfile.TemporaryDirectory()), name)

    async def transport(self, protocol=Recorder):
        transport, _ = await self.loop.create_connection(protocol, sock=self.connected)
        self.stack.callback(lambda: None if self.loop.is_closed() else transport.abort())
        return transport

    async def datagrams(self, **options):
        transport, _ = await self.loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, **(options or {"local_addr": (LOCALHOST, 0)})
        )
        self.stack.callback(lambda: None if self.loop.is_closed() else transport.abort())
        return transport

    async def server(self, **options):
        server = await self.loop.create_server(Recorder, LOCALHOST, 0, **options)
        self.stack.callback(lambda: None if self.loop.is_closed() else server.close())
        return server


def with_transport(act):
    async def case(e):
        result = act(await e.transport())
        return await result if inspect.isawaitable(result) else result

    return case


def with_datagrams(act, **options):
    async def case(e):
        return act(await e.datagrams(**options))

    return case


class BadFileno:
    def __init__(self, value):
        self.value = value

    def fileno(self):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class BadProtocolFactory:
    def __call__(self):
        raise ZeroDivisionError("on purpose")


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

SOCKETS = {
    "sock_recv of None": lambda e: e.loop.sock_recv(None, 10),
    "sock_recv of a number": lambda e: e.loop.sock_recv(5, 10),
    "sock_recv without a size": lambda e: e.loop.sock_recv(e.connected),
    "sock_recv of a negative size": lambda e: e.loop.sock_recv(e.connected, NEGATIVE),
    "sock_recv of a string as size": lambda e: e.loop.sock_recv(e.connected, BAD),
    "sock_recv of a float as size": lambda e: e.loop.sock_recv(e.connected, 1.5),
    "sock_recv of None as size": lambda e: e.loop.sock_recv(e.connected, None),
    "sock_recv of a huge size": lambda e: e.loop.sock_recv(e.connected, HUGE),
    "sock_recv of a closed socket": lambda e: e.loop.sock_recv(e.closed, 10),
    "sock_recv of an unconnected socket": lambda e: e.loop.sock_recv(e.socket(), 10),
    "sock_recv of a blocking socket": lambda e: e.loop.sock_recv(
        (s := e.pair(blocking=True))[0], (s[1].send(b"x"), 1)[1]
    ),
    "sock_recv of a TLS socket": lambda e: e.loop.sock_recv(e.tls_socket, 10),
    "sock_recv_into of bytes": lambda e: e.loop.sock_recv_into(e.connected, b"immutable"),
    "sock_recv_into of None": lambda e: e.loop.sock_recv_into(e.connected, None),
    "sock_recv_into of a number": lambda e: e.loop.sock_recv_into(e.connected, 5),
    "sock_recv_into of a closed socket": lambda e: e.loop.sock_recv_into(e.closed, bytearray(5)),
    "sock_recv_into of a TLS socket": lambda e: e.loop.sock_recv_into(e.tls_socket, bytearray(5)),
    "sock_recvfrom of a negative size": lambda e: e.loop.sock_recvfrom(e.udp, NEGATIVE),
    "sock_recvfrom of a string as size": lambda e: e.loop.sock_recvfrom(e.udp, BAD),
    "sock_recvfrom of a closed socket": lambda e: e.loop.sock_recvfrom(e.closed, 10),
    "sock_recvfrom of a TLS socket": lambda e: e.loop.sock_recvfrom(e.tls_socket, 10),
    "sock_recvfrom_into of bytes": lambda e: e.loop.sock_recvfrom_into(e.udp, b"immutable"),
    "sock_recvfrom_into of a negative size": lambda e: e.loop.sock_recvfrom_into(e.udp, bytearray(5), NEGATIVE),
    "sock_recvfrom_into of more than the buffer holds": lambda e: e.loop.sock_recvfrom_into(e.udp, bytearray(5), 6),
    "sock_recvfrom_into of a string as size": lambda e: e.loop.sock_recvfrom_into(e.udp, bytearray(5), BAD),
    "sock_recvfrom_into of None": lambda e: e.loop.sock_recvfrom_into(e.udp, None),
    "sock_sendall of a string": lambda e: e.loop.sock_sendall(e.connected, BAD),
    "sock_sendall of None": lambda e: e.loop.sock_sendall(e.connected, None),
    "sock_sendall of a number": lambda e: e.loop.sock_sendall(e.connected, 5),
    "sock_sendall of nothing": lambda e: e.loop.sock_sendall(e.connected, b""),
    "sock_sendall to a closed socket": lambda e: e.loop.sock_sendall(e.closed, b"x"),
    "sock_sendall to an unconnected socket": lambda e: e.loop.sock_sendall(e.socket(), b"x"),
    "sock_sendall to a TLS socket": lambda e: e.loop.sock_sendall(e.tls_socket, b"x"),
    "sock_sendall to a blocking socket": lambda e: e.loop.sock_sendall(e.blocking, b"x"),
    "sock_sendto of a string": lambda e: e.loop.sock_sendto(e.udp, BAD, (LOCALHOST, 9)),
    "sock_sendto without an address": lambda e: e.loop.sock_sendto(e.udp, b"x"),
    "sock_sendto None": lambda e: e.loop.sock_sendto(e.udp, b"x", None),
    "sock_sendto a string": lambda e: e.loop.sock_sendto(e.udp, b"x", BAD),
    "sock_sendto a host alone": lambda e: e.loop.sock_sendto(e.udp, b"x", (LOCALHOST,)),
    "sock_sendto a port that is a string": lambda e: e.loop.sock_sendto(e.udp, b"x", (LOCALHOST, BAD)),
    "sock_sendto a port too big": lambda e: e.loop.sock_sendto(e.udp, b"x", (LOCALHOST, 70_000)),
    "sock_sendto more than a datagram holds": lambda e: e.loop.sock_sendto(e.udp, bytes(70_000), (LOCALHOST, 9)),
    "sock_sendto of a closed socket": lambda e: e.loop.sock_sendto(e.closed, b"x", (LOCALHOST, 9)),
    "sock_sendto a TLS socket": lambda e: e.loop.sock_sendto(e.tls_socket, b"x", (LOCALHOST, 9)),
    "sock_connect to a string": lambda e: e.loop.sock_connect(e.socket(), BAD),
    "sock_connect to None": lambda e: e.loop.sock_connect(e.socket(), None),
    "sock_connect to a host alone": lambda e: e.loop.sock_connect(e.socket(), (LOCALHOST,)),
    "sock_connect to a port too big": lambda e: e.loop.sock_connect(e.socket(), (LOCALHOST, 70_000)),
    "sock_connect to a port that is a string": lambda e: e.loop.sock_connect(e.socket(), (LOCALHOST, BAD)),
    "sock_connect of a closed socket": lambda e: e.loop.sock_connect(e.closed, (LOCALHOST, 9)),
    "sock_connect of a connected Unix socket": lambda e: e.loop.sock_connect(e.connected, "/no/such/path"),
    "sock_connect where nobody listens": lambda e: e.loop.sock_connect(e.socket(), (LOCALHOST, e.unused_port)),
    "sock_connect of a TLS socket": lambda e: e.loop.sock_connect(e.tls_socket, (LOCALHOST, 9)),
    "sock_connect of a blocking socket": lambda e: e.loop.sock_connect(
        e.socket(blocking=True), (LOCALHOST, e.unused_port)
    ),
    "sock_connect to no such Unix socket": lambda e: e.loop.sock_connect(e.socket(socket.AF_UNIX), "/no/such/path"),
    "sock_accept of a socket that does not listen": lambda e: e.loop.sock_accept(e.socket()),
    "sock_accept of a closed socket": lambda e: e.loop.sock_accept(e.closed),
    "sock_accept of a TLS socket": lambda e: e.loop.sock_accept(e.tls_socket),
    "sock_accept of None": lambda e: e.loop.sock_accept(None),
}


async def on_a_transports_socket(e, method, *arguments):
    sock = e.connected
    transport, _ = await e.loop.create_connection(Recorder, sock=sock)
    try:
        await getattr(e.loop, method)(sock, *arguments)
    finally:
        transport.abort()


SOCKETS["sock_recv of a transport's socket"] = lambda e: on_a_transports_socket(e, "sock_recv", 10)


async def blocking_in_debug(e, method, *arguments):
    """Only in debug mode do blocking sockets raise, and only there is it safe to try."""
    e.loop.set_debug(True)
    await getattr(e.loop, method)(e.blocking, *arguments)


for method, *arguments in (
    ("sock_recv", 10),
    ("sock_recv_into", bytearray(5)),
    ("sock_recvfrom", 10),
    ("sock_recvfrom_into", bytearray(5)),
    ("sock_sendall", b"x"),
    ("sock_sendto", b"x", (LOCALHOST, 9)),
    ("sock_connect", (LOCALHOST, 9)),
    ("sock_accept",),
):
    SOCKETS[f"{method} of a blocking socket in debug mode"] = lambda e, m=method, a=arguments: blocking_in_debug(
        e, m, *a
    )

CONNECTIONS = {
    "create_connection to nothing": lambda e: e.loop.create_connection(Recorder),
    "create_connection without a factory": lambda e: e.loop.create_connection(),
    "create_connection to a host and a socket": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, 9, sock=e.connected
    ),
    "create_connection over a datagram socket": lambda e: e.loop.create_connection(Recorder, sock=e.udp),
    "create_connection over a closed socket": lambda e: e.loop.create_connection(Recorder, sock=e.closed),
    "create_connection over a string": lambda e: e.loop.create_connection(Recorder, sock=BAD),
    "create_connection over a TLS socket": lambda e: e.loop.create_connection(Recorder, sock=e.tls_socket),
    "create_connection with a factory that is none": lambda e: e.loop.create_connection(BAD, sock=e.connected),
    "create_connection with a factory that fails": lambda e: e.loop.create_connection(
        BadProtocolFactory(), sock=e.connected
    ),
    "create_connection with a factory that returns None": lambda e: e.loop.create_connection(nothing, sock=e.connected),
    "create_connection with a string for ssl": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, e.listener.getsockname()[1], ssl=BAD
    ),
    "create_connection with a server_hostname and no ssl": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, 9, server_hostname="x"
    ),
    "create_connection with ssl, a socket and no server_hostname": lambda e: e.loop.create_connection(
        Recorder, sock=e.connected, ssl=e.tls
    ),
    "create_connection with a handshake timeout and no ssl": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, 9, ssl_handshake_timeout=1
    ),
    "create_connection with a shutdown timeout and no ssl": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, 9, ssl_shutdown_timeout=1
    ),
    "create_connection with a handshake timeout of zero": lambda e: e.loop.create_connection(
        Recorder, sock=e.connected, ssl=e.tls, server_hostname="x", ssl_handshake_timeout=0
    ),
    "create_connection with a negative handshake timeout": lambda e: e.loop.create_connection(
        Recorder, sock=e.connected, ssl=e.tls, server_hostname="x", ssl_handshake_timeout=NEGATIVE
    ),
    "create_connection with a negative shutdown timeout": lambda e: e.loop.create_connection(
        Recorder, sock=e.connected, ssl=e.tls, server_hostname="x", ssl_shutdown_timeout=NEGATIVE
    ),
    "create_connection where nobody listens": lambda e: e.loop.create_connection(Recorder, LOCALHOST, e.unused_port),
    "create_connection to a port too big": lambda e: e.loop.create_connection(Recorder, LOCALHOST, 70_000),
    "create_connection to a negative port": lambda e: e.loop.create_connection(Recorder, LOCALHOST, NEGATIVE),
    "create_connection to a port that is a word": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, "nosuchservice"
    ),
    "create_connection to a family that is none": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, 9, family=12345
    ),
    "create_connection from a local address that is none": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, 9, local_addr=BAD
    ),
    "create_connection from somewhere else": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, 9, local_addr=("192.0.2.1", 0)
    ),
    "create_connection with an unknown keyword": lambda e: e.loop.create_connection(Recorder, LOCALHOST, 9, unknown=1),
    "create_connection to a host with a NUL": lambda e: e.loop.create_connection(Recorder, "a\0b", 9),
    "create_connection to a host too long for IDNA": lambda e: e.loop.create_connection(Recorder, "ä" * 300, 9),
    "connect_accepted_socket of a datagram socket": lambda e: e.loop.connect_accepted_socket(Recorder, e.udp),
    "connect_accepted_socket of None": lambda e: e.loop.connect_accepted_socket(Recorder, None),
    "connect_accepted_socket with a string for ssl": lambda e: e.loop.connect_accepted_socket(
        Recorder, e.connected, ssl=BAD
    ),
    "connect_accepted_socket with a handshake timeout and no ssl": lambda e: e.loop.connect_accepted_socket(
        Recorder, e.connected, ssl_handshake_timeout=1
    ),
    "connect_accepted_socket with a shutdown timeout and no ssl": lambda e: e.loop.connect_accepted_socket(
        Recorder, e.connected, ssl_shutdown_timeout=1
    ),
    "create_unix_connection to nothing": lambda e: e.loop.create_unix_connection(Recorder),
    "create_unix_connection to a path and a socket": lambda e: e.loop.create_unix_connection(
        Recorder, "/x", sock=e.connected
    ),
    "create_unix_connection to no such path": lambda e: e.loop.create_unix_connection(Recorder, "/no/such/path"),
    "create_unix_connection to a path too long": lambda e: e.loop.create_unix_connection(Recorder, "x" * 300),
    "create_unix_connection to a number": lambda e: e.loop.create_unix_connection(Recorder, 5),
    "create_unix_connection over an Internet socket": lambda e: e.loop.create_unix_connection(
        Recorder, sock=e.socket()
    ),
    "create_unix_connection over a datagram socket": lambda e: e.loop.create_unix_connection(
        Recorder, sock=e.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ),
    "create_unix_connection with ssl and no server_hostname": lambda e: e.loop.create_unix_connection(
        Recorder, "/x", ssl=e.tls
    ),
    "create_unix_connection with a server_hostname and no ssl": lambda e: e.loop.create_unix_connection(
        Recorder, "/x", server_hostname="x"
    ),
    "create_unix_connection with a handshake timeout and no ssl": lambda e: e.loop.create_unix_connection(
        Recorder, "/x", ssl_handshake_timeout=1
    ),
    "start_tls of None": lambda e: e.loop.start_tls(None, Recorder(), e.tls),
    "start_tls with a context that is none": lambda e: e.loop.start_tls(None, Recorder(), BAD),
    "start_tls without a context": lambda e: e.loop.start_tls(None, Recorder()),
}


async def closed_server(e, act):
    server = await e.server()
    server.close()
    await turns(2)
    result = getattr(server, act)()
    return await result if inspect.isawaitable(result) else result


async def serve_forever_twice(e):
    server = await e.server()
    first = asyncio.ensure_future(server.serve_forever())
    await turns(2)
    try:
        await server.serve_forever()
    finally:
        first.cancel()
        await asyncio.wait([first])


SERVERS = {
    "create_server nowhere": lambda e: e.loop.create_server(Recorder),
    "create_server without a factory": lambda e: e.loop.create_server(),
    "create_server on a host and a socket": lambda e: e.loop.create_server(Recorder, LOCALHOST, 0, sock=e.listener),
    "create_server on a datagram socket": lambda e: e.loop.create_server(Recorder, sock=e.udp),
    "create_server on a string": lambda e: e.loop.create_server(Recorder, sock=BAD),
    "create_server with ssl=True": lambda e: e.loop.create_server(Recorder, LOCALHOST, 0, ssl=True),
    "create_server with a string for ssl": lambda e: e.loop.create_server(Recorder, LOCALHOST, 0, ssl=BAD),
    "create_server with a handshake timeout and no ssl": lambda e: e.loop.create_server(
        Recorder, LOCALHOST, 0, ssl_handshake_timeout=1
    ),
    "create_server with a shutdown timeout and no ssl": lambda e: e.loop.create_server(
        Recorder, LOCALHOST, 0, ssl_shutdown_timeout=1
    ),
    "create_server on a port in use": lambda e: e.loop.create_server(Recorder, *e.listener.getsockname()),
    "create_server on a port too big": lambda e: e.loop.create_server(Recorder, LOCALHOST, 70_000),
    "create_server on a port that is a word": lambda e: e.loop.create_server(Recorder, LOCALHOST, "nosuchservice"),
    "create_server on somebody else's address": lambda e: e.loop.create_server(Recorder, "192.0.2.1", 0),
    "create_server on a number": lambda e: e.loop.create_server(Recorder, 5, 0),
    "create_server on hosts of which one is a number": lambda e: e.loop.create_server(Recorder, [LOCALHOST, 5], 0),
    "create_server on no hosts": lambda e: e.loop.create_server(Recorder, [], 0),
    "create_server with a string for a backlog": lambda e: e.loop.create_server(Recorder, LOCALHOST, 0, backlog=BAD),
    "create_server with a family that is none": lambda e: e.loop.create_server(Recorder, LOCALHOST, 0, family=12345),
    "create_server with an unknown keyword": lambda e: e.loop.create_server(Recorder, LOCALHOST, 0, unknown=1),
    "create_unix_server nowhere": lambda e: e.loop.create_unix_server(Recorder),
    "create_unix_server on a path and a socket": lambda e: e.loop.create_unix_server(
        Recorder, e.path(), sock=e.socket(socket.AF_UNIX)
    ),
    "create_unix_server on a path that is a file": lambda e: e.loop.create_unix_server(Recorder, __file__),
    "create_unix_server in no such directory": lambda e: e.loop.create_unix_server(
        Recorder, "/no/such/directory/socket"
    ),
    "create_unix_server on a path too long": lambda e: e.loop.create_unix_server(Recorder, "/tmp/" + "x" * 300),
    "create_unix_server on a number": lambda e: e.loop.create_unix_server(Recorder, 5),
    "create_unix_server on an Internet socket": lambda e: e.loop.create_unix_server(Recorder, sock=e.socket()),
    "create_unix_server with ssl=True": lambda e: e.loop.create_unix_server(Recorder, e.path(), ssl=True),
    "create_unix_server with a handshake timeout and no ssl": lambda e: e.loop.create_unix_server(
        Recorder, e.path(), ssl_handshake_timeout=1
    ),
    "start_serving of a closed server": lambda e: closed_server(e, "start_serving"),
    "serve_forever of a closed server": lambda e: closed_server(e, "serve_forever"),
    "close of a closed server": lambda e: closed_server(e, "close"),
    "wait_closed of a closed server": lambda e: closed_server(e, "wait_closed"),
    "serve_forever twice": serve_forever_twice,
}

DATAGRAMS = {
    "create_datagram_endpoint nowhere": lambda e: e.loop.create_datagram_endpoint(asyncio.DatagramProtocol),
    "create_datagram_endpoint over a stream socket": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, sock=e.socket()
    ),
    "create_datagram_endpoint over a socket and an address": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, (LOCALHOST, 0), sock=e.udp
    ),
    "create_datagram_endpoint over a socket with options": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, sock=e.udp, allow_broadcast=True, reuse_port=True
    ),
    "create_datagram_endpoint at a string": lambda e: e.loop.create_datagram_endpoint(asyncio.DatagramProtocol, BAD),
    "create_datagram_endpoint at a list": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, [LOCALHOST, 0]
    ),
    "create_datagram_endpoint at three values": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, (LOCALHOST, 0, 0)
    ),
    "create_datagram_endpoint at addresses of two families": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, (LOCALHOST, 0), ("::1", 9)
    ),
    "create_datagram_endpoint at somebody else's address": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, ("192.0.2.1", 0)
    ),
    "create_datagram_endpoint at a port too big": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, (LOCALHOST, 70_000)
    ),
    "create_datagram_endpoint at a Unix path that is a tuple": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, (LOCALHOST, 0), family=socket.AF_UNIX
    ),
    "create_datagram_endpoint with the reuse_address that is gone": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, (LOCALHOST, 0), reuse_address=True
    ),
    "create_datagram_endpoint with a factory that fails": lambda e: e.loop.create_datagram_endpoint(
        BadProtocolFactory(), (LOCALHOST, 0)
    ),
    "sendto of a string": with_datagrams(lambda t: t.sendto(BAD, (LOCALHOST, 9))),
    "sendto of None": with_datagrams(lambda t: t.sendto(None, (LOCALHOST, 9))),
    "sendto nowhere": with_datagrams(lambda t: t.sendto(b"x")),
    "sendto a string": with_datagrams(lambda t: t.sendto(b"x", BAD)),
    "sendto a port too big": with_datagrams(lambda t: t.sendto(b"x", (LOCALHOST, 70_000))),
    "sendto more than a datagram holds": with_datagrams(lambda t: t.sendto(bytes(70_000), (LOCALHOST, 9))),
    "sendto elsewhere than connected": with_datagrams(
        lambda t: t.sendto(b"x", (LOCALHOST, 10)), remote_addr=(LOCALHOST, 9)
    ),
    "sendto after close": with_datagrams(lambda t: (t.close(), t.sendto(b"x", (LOCALHOST, 9)))),
    "sendto after abort": with_datagrams(lambda t: (t.abort(), t.sendto(b"x", (LOCALHOST, 9)))),
}


async def sendfile_after_close(e):
    transport = await e.transport()
    transport.close()
    await e.loop.sendfile(transport, e.file())


async def sendfile_of(e, file, *arguments, **keywords):
    await e.loop.sendfile(await e.transport(), file, *arguments, **keywords)


TRANSPORTS = {
    "write of a string": with_transport(lambda t: t.write(BAD)),
    "write of None": with_transport(lambda t: t.write(None)),
    "write of a number": with_transport(lambda t: t.write(5)),
    "write of a list": with_transport(lambda t: t.write([1, 2])),
    "write of nothing": with_transport(lambda t: t.write(b"")),
    "write without an argument": with_transport(lambda t: t.write()),
    "writelines of a number": with_transport(lambda t: t.writelines(5)),
    "writelines of numbers": with_transport(lambda t: t.writelines([5])),
    "writelines of strings": with_transport(lambda t: t.writelines([BAD])),
    "write after write_eof": with_transport(lambda t: (t.write_eof(), t.write(b"x"))),
    "writelines after write_eof": with_transport(lambda t: (t.write_eof(), t.writelines([b"x"]))),
    "write_eof twice": with_transport(lambda t: (t.write_eof(), t.write_eof())),
    "write_eof after close": with_transport(lambda t: (t.close(), t.write_eof())),
    "write after close": with_transport(lambda t: (t.close(), t.write(b"x"))),
    "write of a string after close": with_transport(lambda t: (t.close(), t.write(BAD))),
    "close twice": with_transport(lambda t: (t.close(), t.close())),
    "pause_reading after close": with_transport(lambda t: (t.close(), t.pause_reading(), t.resume_reading())),
    "negative limits": with_transport(lambda t: t.set_write_buffer_limits(high=NEGATIVE)),
    "a low mark above the high one": with_transport(lambda t: t.set_write_buffer_limits(high=1, low=2)),
    "a negative low mark": with_transport(lambda t: t.set_write_buffer_limits(low=NEGATIVE)),
    "a string for a mark": with_transport(lambda t: t.set_write_buffer_limits(high=BAD)),
    "a huge mark": with_transport(lambda t: t.set_write_buffer_limits(high=HUGE)),
    "get_extra_info without a name": with_transport(lambda t: t.get_extra_info()),
    "get_extra_info of a number": with_transport(lambda t: t.get_extra_info(5)),
    "set_protocol without a protocol": with_transport(lambda t: t.set_protocol()),
    "sendfile over a closed transport": sendfile_after_close,
    "sendfile of a text file": lambda e: sendfile_of(e, io.StringIO("x")),
    "sendfile of a file that is none": lambda e: sendfile_of(e, BAD),
    "sendfile with count zero": lambda e: sendfile_of(e, e.file(), 0, 0),
    "sendfile with a negative count": lambda e: sendfile_of(e, e.file(), 0, NEGATIVE),
    "sendfile with a string for a count": lambda e: sendfile_of(e, e.file(), 0, BAD),
    "sendfile with a negative offset": lambda e: sendfile_of(e, e.file(), NEGATIVE),
    "sendfile with a string for an offset": lambda e: sendfile_of(e, e.file(), BAD),
    "sendfile without fallback of what has no descriptor": lambda e: sendfile_of(e, io.BytesIO(b"x"), fallback=False),
    "sendfile with fallback of what has no descriptor": lambda e: sendfile_of(e, io.BytesIO(b"x")),
    "sendfile over None": lambda e: e.loop.sendfile(None, e.file()),
    "sock_sendfile of a text file": lambda e: e.loop.sock_sendfile(e.connected, io.StringIO("x")),
    "sock_sendfile of a file that is none": lambda e: e.loop.sock_sendfile(e.connected, BAD),
    "sock_sendfile with count zero": lambda e: e.loop.sock_sendfile(e.connected, e.file(), 0, 0),
    "sock_sendfile with a negative count": lambda e: e.loop.sock_sendfile(e.connected, e.file(), 0, NEGATIVE),
    "sock_sendfile with a string for a count": lambda e: e.loop.sock_sendfile(e.connected, e.file(), 0, BAD),
    "sock_sendfile with a negative offset": lambda e: e.loop.sock_sendfile(e.connected, e.file(), NEGATIVE),
    "sock_sendfile with a string for an offset": lambda e: e.loop.sock_sendfile(e.connected, e.file(), BAD),
    "sock_sendfile over a datagram socket": lambda e: e.loop.sock_sendfile(e.udp, e.file()),
    "sock_sendfile without fallback of what has no descriptor": lambda e: e.loop.sock_sendfile(
        e.connected, io.BytesIO(b"x"), fallback=False
    ),
    "sock_sendfile of a closed file": lambda e: e.loop.sock_sendfile(e.connected, e.closed_file),
    "sock_sendfile over a closed socket": lambda e: e.loop.sock_sendfile(e.closed, e.file()),
}

PIPES_AND_PROCESSES = {
    "connect_read_pipe of a regular file": lambda e: e.loop.connect_read_pipe(Recorder, e.file()),
    "connect_write_pipe of a regular file": lambda e: e.loop.connect_write_pipe(Recorder, e.file()),
    "connect_read_pipe of None": lambda e: e.loop.connect_read_pipe(Recorder, None),
    "connect_write_pipe of None": lambda e: e.loop.connect_write_pipe(Recorder, None),
    "connect_read_pipe of a closed file": lambda e: e.loop.connect_read_pipe(Recorder, e.closed_file),
    "connect_read_pipe with a factory that fails": lambda e: e.loop.connect_read_pipe(
        BadProtocolFactory(), e.connected
    ),
    "subprocess_exec of nothing": lambda e: e.loop.subprocess_exec(asyncio.SubprocessProtocol),
    "subprocess_exec of a number": lambda e: e.loop.subprocess_exec(asyncio.SubprocessProtocol, 5),
    "subprocess_exec with a number as argument": lambda e: e.loop.subprocess_exec(
        asyncio.SubprocessProtocol, "true", 5
    ),
    "subprocess_exec of no such program": lambda e: e.loop.subprocess_exec(
        asyncio.SubprocessProtocol, "/no/such/program"
    ),
    "subprocess_exec of what is not executable": lambda e: e.loop.subprocess_exec(
        asyncio.SubprocessProtocol, "/etc/hostname"
    ),
    "subprocess_exec of a name with a NUL": lambda e: e.loop.subprocess_exec(asyncio.SubprocessProtocol, "a\0b"),
    "subprocess_exec in no such directory": lambda e: e.loop.subprocess_exec(
        asyncio.SubprocessProtocol, "true", cwd="/no/such/directory"
    ),
    "subprocess_exec with a string for stdin": lambda e: e.loop.subprocess_exec(
        asyncio.SubprocessProtocol, "true", stdin=BAD
    ),
    "subprocess_exec with an unknown keyword": lambda e: e.loop.subprocess_exec(
        asyncio.SubprocessProtocol, "true", unknown=1
    ),
    "subprocess_exec with a bad environment": lambda e: e.loop.subprocess_exec(
        asyncio.SubprocessProtocol, "true", env={"a": 5}
    ),
    "subprocess_exec with a factory that fails": lambda e: e.loop.subprocess_exec(BadProtocolFactory(), "true"),
    "subprocess_shell of a number": lambda e: e.loop.subprocess_shell(asyncio.SubprocessProtocol, 5),
    "subprocess_shell of nothing": lambda e: e.loop.subprocess_shell(asyncio.SubprocessProtocol),
    **{
        f"subprocess_{kind} with {keyword}={value!r}": lambda e, kind=kind, given={keyword: value}: getattr(
            e.loop, f"subprocess_{kind}"
        )(asyncio.SubprocessProtocol, "true", **given)
        for kind in ("exec", "shell")
        for keyword, value in (
            ("universal_newlines", True),
            ("text", True),
            ("encoding", "utf-8"),
            ("errors", "strict"),
            ("bufsize", 1),
            ("shell", kind == "exec"),
        )
    },
}

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
