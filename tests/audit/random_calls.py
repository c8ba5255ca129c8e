"""Random calls, valid and not, on everything that a loop hands out, from callbacks and from outside.

    python -m tests.audit.random_calls FIRST_SEED [SEEDS [STEPS]]

The same seed makes the same choices (the kernel and threads add their own). What may come of a call is one of the
exceptions that asyncio raises for misuse. Afterwards everything must be as at the start: descriptors, threads, and no
object of the loop's alive. The process ends with status 0, or says what is wrong.
"""

import asyncio
import contextvars
import faulthandler
import gc
import logging
import math
import os
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
import warnings
import weakref

import ferrio

#: What misuse may raise. A panic would be a BaseException, a fault of the native code a SystemError.
EXPECTED = (
    RuntimeError,
    ValueError,
    TypeError,
    OSError,
    AttributeError,
    AssertionError,
    LookupError,
    BufferError,
    NotImplementedError,
    StopIteration,
    OverflowError,
    asyncio.CancelledError,
    asyncio.InvalidStateError,
    EOFError,
)

#: Seconds after which a seed counts as hanging.
PATIENCE = 60


class Own(Exception):
    """What the random program raises itself."""


class Chaos:
    def __init__(self, seed, steps):
        self.random = random.Random(seed)
        self.steps = steps
        self.depth = 0
        self.folder = tempfile.mkdtemp()
        self.loop = ferrio.new_event_loop()
        self.loop.set_exception_handler(self.on_error)
        self.things = {name: [] for name in ("transports", "handles", "servers", "tasks", "sockets", "awaitables")}
        self.witnesses = [weakref.ref(self.loop)]
        self.faults = []
        self.operations = [getattr(self, name) for name in sorted(dir(type(self))) if name.startswith("do_")]

    # --- tools -------------------------------------------------------------------------------------------------------

    def on_error(self, loop, context):
        self.check(context.get("exception"))
        if self.random.random() < 0.05:
            raise Own("from the exception handler")

    def check(self, error):
        """Notes what no program may ever see."""
        while error is not None:
            name = type(error).__name__
            if name == "PanicException" or isinstance(error, SystemError) or "panic in native code" in str(error):
                self.faults.append(repr(error))
            error = error.__context__

    def pick(self, kind):
        things = self.things[kind]
        return self.random.choice(things) if things else None

    def keep(self, kind, thing):
        things = self.things[kind]
        things.append(thing)
        try:
            self.witnesses.append(weakref.ref(thing))
        except TypeError:
            pass
        if len(things) > 12:
            things.pop(self.random.randrange(len(things)))
        return thing

    def act(self):
        """One random operation; from within callbacks a few levels deep."""
        if self.depth > 3:
            return
        self.depth += 1
        try:
            self.random.choice(self.operations)()
        except (*EXPECTED, Own) as error:
            self.check(error)
        finally:
            self.depth -= 1

    def maybe_raise(self):
        if self.random.random() < 0.03:
            raise self.random.choice([Own, ValueError, OSError, asyncio.CancelledError, GeneratorExit])("random")

    def callback(self, *arguments):
        if self.random.random() < 0.5:
            self.act()
        if self.random.random() < 0.002:
            raise self.random.choice([KeyboardInterrupt, SystemExit])
        self.maybe_raise()

    def spawn(self, coroutine):
        return self.keep("tasks", self.loop.create_task(_quietly(self, coroutine)))

    def value(self):
        """Anything: for arguments that expect something else."""
        return self.random.choice(
            [None, -1, 0, 3, 10**6, 2**70, 1.5, math.inf, b"", b"abc", "text", [], {}, object(), print]
        )

    def seconds(self):
        return self.random.choice([0, 0.0001, 0.001, 0.005, -1, 5, 1e10, math.inf, -math.inf])

    def data(self):
        return bytes(self.random.choice([0, 1, 100, 5000, 70_000, 400_000]))

    def protocol(self):
        return self.random.choice([Stream, Stream, Buffered])(self)

    # --- scheduling --------------------------------------------------------------------------------------------------

    def do_call_soon(self):
        arguments = [self.value() for _ in range(self.random.randrange(6))]
        self.keep("handles", self.loop.call_soon(self.callback, *arguments))

    def do_call_soon_in_context(self):
        context = self.random.choice([None, contextvars.copy_context(), 3])
        self.keep("handles", self.loop.call_soon(self.callback, context=context))

    def do_call_later(self):
        self.keep("handles", self.loop.call_later(self.seconds(), self.callback, self.value()))

    def do_call_at(self):
        self.keep("handles", self.loop.call_at(self.loop.time() + self.seconds(), self.callback))

    def do_call_with_nonsense(self):
        method = self.random.choice([self.loop.call_soon, self.loop.call_later, self.loop.call_at])
        method(*[self.value() for _ in range(self.random.randrange(4))]).cancel()

    def do_call_from_thread(self):
        thread = threading.Thread(target=_ignore(self.loop.call_soon_threadsafe), args=(self.callback,))
        thread.start()
        thread.join()

    def do_use_from_thread(self):
        kind = self.random.choice(["transports", "servers", "awaitables", "handles"])
        thing = self.pick(kind)
        name = self.random.choice(["close", "abort", "cancel", "get_extra_info", "is_closing", "__repr__", "send"])
        method = getattr(thing, name)
        arguments = ["socket"] if name == "get_extra_info" else [None] if name == "send" else []
        thread = threading.Thread(target=_ignore(method, self.check), args=arguments)
        thread.start()
        thread.join()

    def do_cancel_handle(self):
        self.pick("handles").cancel()

    def do_run_handle(self):
        self.pick("handles")._run()

    def do_chain_handles(self):
        handle = None
        for _ in range(200):
            # (As a default and not as an argument: a repr would show the whole chain.)
            handle = self.loop.call_later(100, lambda handle=handle: None)
            self.witnesses.append(weakref.ref(handle))

    def do_look(self):
        things = [*self.loop._ready, *self.loop._scheduled, *(self.pick(kind) for kind in self.things)]
        for thing in things:
            repr(thing)
            getattr(thing, "_args", None), getattr(thing, "_callback", None)

    def do_compare_timers(self):
        first, second = self.pick("handles"), self.pick("handles")
        first == second, first < second, hash(first)

    def do_stop(self):
        if self.random.random() < 0.3:
            self.loop.stop()

    def do_misuse_loop(self):
        self.random.choice(
            [self.loop.run_forever, self.loop.close, self.loop._close] if self.loop.is_running() else [id]
        )()

    def do_debug(self):
        self.loop.set_debug(self.random.random() < 0.3)

    def do_collect(self):
        gc.collect(self.random.choice([0, 1, 2]))

    def do_forget(self):
        self.things[self.random.choice(list(self.things))].clear()

    def do_executor(self):
        self.keep("tasks", self.loop.run_in_executor(None, self.random.choice([os.getpid, lambda: 1 / 0])))

    # --- connections -------------------------------------------------------------------------------------------------

    def do_connect_pair(self):
        for sock in socket.socketpair():
            self.spawn(lambda sock=sock: self.loop.connect_accepted_socket(self.protocol, sock))

    def do_connect_one(self):
        mine, peer = socket.socketpair()
        peer.setblocking(False)
        self.keep("sockets", peer)
        self.spawn(lambda: self.loop.connect_accepted_socket(self.protocol, mine))

    def do_serve(self):
        async def serve():
            if self.random.random() < 0.5:
                server = await self.loop.create_server(self.protocol, "127.0.0.1", 0)
            else:
                path = os.path.join(self.folder, f"{self.random.randrange(10**9)}")
                server = await self.loop.create_unix_server(self.protocol, path)
            self.keep("servers", server)

        self.spawn(serve())

    def do_connect_to_server(self):
        sockets = self.pick("servers").sockets
        address = self.random.choice(sockets).getsockname()
        if isinstance(address, str):
            self.spawn(lambda: self.loop.create_unix_connection(self.protocol, address))
        else:
            self.spawn(lambda: self.loop.create_connection(self.protocol, *address))

    def do_use_server(self):
        server = self.pick("servers")
        name = self.random.choice(
            ["close", "close_clients", "abort_clients", "is_serving", "wait_closed", "serve_forever"]
        )
        result = getattr(server, name)()
        if asyncio.iscoroutine(result):
            self.spawn(result)

    def do_datagrams(self):
        async def open_endpoint():
            local = ("127.0.0.1", 0)
            transport, _ = await self.loop.create_datagram_endpoint(lambda: Datagrams(self), local)
            transport.sendto(b"to myself", transport.get_extra_info("sockname"))

        self.spawn(open_endpoint())

    def do_pipe(self):
        async def connect():
            reader, writer = os.pipe()
            reader, writer = os.fdopen(reader, "rb", 0), os.fdopen(writer, "wb", 0)
            await self.loop.connect_read_pipe(lambda: Stream(self), reader)
            await self.loop.connect_write_pipe(lambda: Stream(self), writer)
            await asyncio.sleep(self.random.choice([0, 0.001]))

        self.spawn(connect())

    def do_subprocess(self):
        if self.random.random() < 0.2:
            command = self.random.choice([("cat",), ("true",), ("sleep", "0.01"), ("no such program",)])
            self.spawn(lambda: self.loop.subprocess_exec(lambda: Child(self), *command))

    def do_use_transport(self):
        transport = self.pick("transports")
        name = self.random.choice(
            """write write write writelines close abort write_eof pause_reading resume_reading is_reading is_closing
            get_extra_info set_protocol get_protocol set_write_buffer_limits get_write_buffer_size sendto kill
            get_pipe_transport _force_close __repr__ send_signal get_returncode""".split()
        )
        method = getattr(transport, name)
        nonsense = self.random.random() < 0.1
        arguments = {
            "write": [self.data()],
            "writelines": [[self.data(), bytearray(self.data()), memoryview(b"abc")]],
            "get_extra_info": [self.random.choice(["socket", "peername", "sockname", "pipe", "subprocess", "x"])],
            "set_protocol": [self.protocol()],
            "set_write_buffer_limits": self.random.choice([[0], [10, 5], [10**6], []]),
            "sendto": [self.data()[:1000], self.random.choice([None, ("127.0.0.1", 9)])],
            "get_pipe_transport": [self.random.randrange(4)],
            "_force_close": [self.random.choice([None, OSError("forced")])],
            "send_signal": [0],
        }.get(name, [])
        if nonsense and name not in ("send_signal", "set_protocol"):
            arguments = [self.value() for _ in range(self.random.randrange(3))]
        result = method(*arguments)
        if hasattr(result, "pause_reading"):
            self.keep("transports", result)

    def do_forget_protocol(self):
        self.pick("transports").set_protocol(Stream(self))

    # --- sockets -----------------------------------------------------------------------------------------------------

    def do_socket(self):
        for sock in socket.socketpair():
            sock.setblocking(False)
            self.keep("sockets", sock)

    def operation(self):
        """An awaitable of the loop's that is not awaited yet."""
        sock, other = self.pick("sockets"), self.pick("sockets")
        return self.random.choice(
            [
                lambda: self.loop.sock_recv(sock, 100),
                lambda: self.loop.sock_recv_into(sock, bytearray(10)),
                lambda: self.loop.sock_sendall(sock, self.data()),
                lambda: self.loop.sock_accept(sock),
                lambda: self.loop.sock_connect(sock, ("127.0.0.1", 1)),
                lambda: self.loop.sock_recvfrom(other, 10),
                lambda: self.loop.sock_recv(self.value(), self.value()),
                lambda: self.loop.getaddrinfo("127.0.0.1", 80),
                lambda: self.loop.getaddrinfo(self.value(), self.value()),
                lambda: self.loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
            ]
        )()

    def do_await_operation(self):
        self.spawn(self.operation())

    def do_await_with_timeout(self):
        self.spawn(asyncio.wait_for(self.operation(), self.random.choice([0, 0.001, 0.01])))

    def do_drive_operation(self):
        self.keep("awaitables", self.operation())

    def do_use_awaitable(self):
        awaitable = self.pick("awaitables")
        self.random.choice(
            [
                lambda: awaitable.send(None),
                lambda: next(iter(awaitable)),
                lambda: awaitable.throw(self.random.choice([ValueError, asyncio.CancelledError, KeyError("x"), 3])),
                lambda: awaitable.close(),
                lambda: awaitable.cancel(),
                lambda: awaitable.add_done_callback(self.callback),
                lambda: self.spawn(awaitable),
                lambda: repr(awaitable),
            ]
        )()

    def do_cancel_task(self):
        self.pick("tasks").cancel()

    def do_close_socket(self):
        sock = self.pick("sockets")
        if self.random.random() < 0.5:
            self.loop.remove_reader(sock)
            self.loop.remove_writer(sock)
        sock.close()

    def do_write_to_socket(self):
        self.pick("sockets").send(self.data() or b"x")

    def do_watch(self):
        method = self.random.choice(
            [self.loop.add_reader, self.loop.add_writer, self.loop.remove_reader, self.loop.remove_writer]
        )
        where = self.pick("sockets") if self.random.random() < 0.8 else self.random.choice([-1, 0, 10**6, None, "x"])
        if where == 0:
            return
        method(where, *([self.callback, self.value()] if "add" in method.__name__ else []))

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self):
        asyncio.set_event_loop(self.loop)
        for _ in range(self.steps):
            if self.random.random() < 0.3:
                self.act()
            try:
                self.loop.run_until_complete(self.round())
            except (KeyboardInterrupt, SystemExit):
                pass
            except (*EXPECTED, Own, GeneratorExit) as error:
                self.check(error)
        self.end()

    async def round(self):
        for _ in range(self.random.randrange(1, 8)):
            self.act()
            await asyncio.sleep(self.random.choice([0, 0, 0, 0.0005]))

    def end(self):
        """Half of the seeds end in order; the others just close the loop."""
        self.loop.set_debug(False)
        in_order = self.random.random() < 0.5
        if in_order:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            for kind in ("transports", "servers"):
                for thing in self.things[kind]:
                    _ignore(thing.close, self.check)()
        self.operations = [self.do_collect]
        for _ in range(20 if in_order else 3):
            try:
                self.loop.run_until_complete(asyncio.sleep(0.001))
            except (KeyboardInterrupt, SystemExit, RuntimeError):
                pass
        executor = self.loop._default_executor
        if executor is not None:
            executor.shutdown(wait=True)
        for sock in self.things["sockets"]:
            sock.close()
        asyncio.set_event_loop(None)
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _ignore(function, check=lambda error: None):
    def ignoring(*arguments):
        try:
            function(*arguments)
        except (*EXPECTED, Own) as error:
            check(error)

    return ignoring


async def _quietly(chaos, awaitable):
    """Whatever comes of it; a transport is kept.

    What refers back to `chaos` is given as a function that makes the awaitable: the garbage collector sees neither the
    arguments of an operation that has not begun nor what one that has holds.
    """
    try:
        result = await (awaitable() if callable(awaitable) else awaitable)
        if isinstance(result, tuple) and isinstance(result[0], asyncio.BaseTransport):
            chaos.keep("transports", result[0])
        elif isinstance(result, tuple) and isinstance(result[0], socket.socket):
            chaos.keep("sockets", result[0])
    except (*EXPECTED, Own, ExceptionGroup) as error:
        chaos.check(error)


class Base:
    def __init__(self, chaos):
        self.chaos = chaos
        self.transport = None

    def connection_made(self, transport):
        if self.chaos.random.random() < 0.5:
            self.transport = transport
        self.chaos.keep("transports", transport)
        self.chaos.callback()

    def connection_lost(self, error):
        self.chaos.callback()

    def pause_writing(self):
        self.chaos.callback()

    def resume_writing(self):
        self.chaos.callback()


class Stream(Base, asyncio.Protocol):
    def data_received(self, data):
        self.chaos.callback()

    def eof_received(self):
        self.chaos.callback()
        return self.chaos.value()


class Buffered(Base, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        self.chaos.callback()
        size = self.chaos.random.choice([0, 1, 1000, 100_000])
        room = bytearray(size)
        return self.chaos.random.choice([room, room, room, memoryview(room), b"read-only", self.chaos.value()])

    def buffer_updated(self, count):
        self.chaos.callback()

    def eof_received(self):
        self.chaos.callback()


class Datagrams(Base, asyncio.DatagramProtocol):
    def datagram_received(self, data, address):
        self.chaos.callback()

    def error_received(self, error):
        self.chaos.callback()


class Child(Base, asyncio.SubprocessProtocol):
    def pipe_data_received(self, fd, data):
        self.chaos.callback()

    def pipe_connection_lost(self, fd, error):
        self.chaos.callback()

    def process_exited(self):
        self.chaos.callback()


def descriptors():
    """Number and kind of every open descriptor."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the listing's own
            continue
    return found


def run_seed(seed, steps):
    """Runs one seed; returns what is wrong afterwards."""
    # The first loop that runs opens what the process keeps (where its stacks are written for whoever looks at it).
    ferrio.run(asyncio.sleep(0))
    open_before, threads_before = descriptors(), threading.active_count()
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    chaos = Chaos(seed, steps)
    chaos.run()
    wrong = chaos.faults
    witnesses = chaos.witnesses
    del chaos
    for _ in range(20):
        gc.collect()
        alive = [witness() for witness in witnesses if witness() is not None]
        left = {fd: what for fd, what in descriptors().items() if fd not in open_before}
        if not alive and not left and threading.active_count() <= threads_before:
            break
        del alive
        time.sleep(0.02)
    else:
        alive = [repr(witness())[:200] for witness in witnesses if witness() is not None]
        wrong += [f"still alive: {thing}" for thing in alive[:10]]
        wrong += [f"still open: {fd} {what}" for fd, what in left.items()]
        if threading.active_count() > threads_before:
            wrong.append(f"threads: {threading.enumerate()}")
    faulthandler.cancel_dump_traceback_later()
    return wrong


def main(first, seeds=1, steps=150):
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda unraisable: None
    for seed in range(first, first + seeds):
        wrong = run_seed(seed, steps)
        if wrong:
            print(f"seed {seed}:", *wrong, sep="\n    ")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
