"""In which context a callback runs, what things are instances of, and what time it is."""

import asyncio
import contextvars
import os
import signal
import socket
import sys
import time

import pytest

from .support import LOCALHOST, Recorder, in_thread, transport_over, turns, until, within

variable = contextvars.ContextVar("variable", default="unset")


def in_context(value, function, *args):
    """Call the function in a context of its own where the variable has this value."""

    def call():
        variable.set(value)
        return function(*args)

    return contextvars.copy_context().run(call)


# context


@pytest.mark.parametrize(
    "how", ["call_soon", "call_soon_threadsafe", "call_later", "call_at", "add_reader", "add_writer"]
)
def test_a_callback_runs_in_the_context_it_was_registered_in(run, loop, sockets, how):
    ours, peer = sockets
    peer.send(b"x")
    seen = []

    def callback():
        seen.append(variable.get())
        variable.set("changed by the callback")
        loop.remove_reader(ours)
        loop.remove_writer(ours)

    arguments = {
        "call_later": (0.001, callback),
        "call_at": (loop.time() + 0.001, callback),
        "add_reader": (ours, callback),
        "add_writer": (ours, callback),
    }.get(how, (callback,))
    in_context("registered", getattr(loop, how), *arguments)
    run(until(lambda: seen))
    assert seen == ["registered"]
    assert variable.get() == "unset"


@pytest.mark.parametrize("how", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_a_context_that_is_given_is_used_itself_and_not_a_copy(run, loop, how):
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    seen = []

    def callback(step):
        seen.append(variable.get())
        variable.set(f"left by {step}")

    before = {"call_later": (0.001,), "call_at": (loop.time() + 0.001,)}.get(how, ())
    getattr(loop, how)(*before, callback, "the callback", context=context)
    run(until(lambda: seen))
    assert seen == ["given"]
    assert context[variable] == "left by the callback"


def test_a_signal_handler_runs_in_the_context_it_was_added_in(run, loop):
    seen = []
    in_context("added", loop.add_signal_handler, signal.SIGUSR1, lambda: seen.append(variable.get()))
    os.kill(os.getpid(), signal.SIGUSR1)
    run(until(lambda: seen))
    loop.remove_signal_handler(signal.SIGUSR1)
    assert seen == ["added"]


def test_a_task_has_a_context_of_its_own(run):
    async def child():
        seen = variable.get()
        variable.set("set by the child")
        await asyncio.sleep(0)
        return seen, variable.get()

    async def main():
        variable.set("set by the parent")
        assert await asyncio.ensure_future(child()) == ("set by the parent", "set by the child")
        assert variable.get() == "set by the parent"
        context = contextvars.copy_context()
        context.run(variable.set, "given")
        assert await asyncio.get_running_loop().create_task(child(), context=context) == ("given", "set by the child")
        assert context[variable] == "set by the child"

    run(main())
    assert variable.get() == "unset"


def test_a_protocol_of_a_client_runs_in_the_context_of_who_connected(run, sockets):
    ours, peer = sockets
    seen = []

    class Protocol(Recorder):
        def data_received(self, data):
            super().data_received(data)
            seen.append(variable.get())

        def connection_lost(self, exc):
            super().connection_lost(exc)
            seen.append(variable.get())

    async def main():
        variable.set("connected")
        transport, protocol = await transport_over(ours, Protocol)
        variable.set("later")
        peer.send(b"x")
        await until(lambda: protocol.data)
        peer.close()
        await within(protocol.lost)

    run(main())
    assert seen == ["connected", "connected"]


class PerConnection(asyncio.Protocol):
    """Numbers its connections in the context variable, and notes what each callback finds there."""

    numbers = iter(())
    seen = None

    def connection_made(self, transport):
        found = variable.get()
        self.number = next(self.numbers)
        variable.set(self.number)
        self.seen.append((self.number, "connection_made", found))

    def note(self, name):
        self.seen.append((self.number, name, variable.get()))

    def data_received(self, data):
        self.note("data_received")

    def eof_received(self):
        self.note("eof_received")

    def connection_lost(self, exc):
        self.note("connection_lost")


@pytest.mark.parametrize(
    "secure",
    [
        pytest.param(
            False,
            id="plain",
            marks=pytest.mark.stock_differs("a context per connection came with 3.15", when=sys.version_info < (3, 15)),
        ),
        pytest.param(True, id="tls"),
    ],
)
def test_every_accepted_connection_has_a_context_of_its_own(run, loop, server_tls, client_tls, secure):
    class Protocol(PerConnection):
        numbers = iter(range(1, 100))
        seen = []

    def client(address):
        with socket.create_connection(address) as sock:
            sock.settimeout(5)
            if secure:
                sock = client_tls.wrap_socket(sock, server_hostname="localhost")
            with sock:
                sock.send(b"hello")
                time.sleep(0.02)
                sock.send(b"again")
                time.sleep(0.02)
                (sock.unwrap() if secure else sock.shutdown(socket.SHUT_WR))

    async def main():
        variable.set("where the server was made")
        server = await loop.create_server(Protocol, LOCALHOST, 0, ssl=server_tls if secure else None)
        variable.set("later")
        address = server.sockets[0].getsockname()
        await asyncio.gather(*(in_thread(client, address) for _ in range(3)))
        await until(lambda: [name for _, name, _ in Protocol.seen].count("connection_lost") == 3)
        server.close()
        await turns(3)

    run(main())
    for number in (1, 2, 3):
        mine = [(name, found) for n, name, found in Protocol.seen if n == number]
        assert mine[0] == ("connection_made", "where the server was made")
        # (What the client sends may come in one piece.)
        assert list(dict.fromkeys(mine[1:])) == [
            (name, number) for name in ("data_received", "eof_received", "connection_lost")
        ]


def test_what_a_connection_sets_never_reaches_the_server_or_the_next_connection(run, loop):
    class Protocol(PerConnection):
        numbers = iter(range(1, 100))
        seen = []

    async def main():
        server = await loop.create_server(Protocol, LOCALHOST, 0)
        for _ in range(3):
            with socket.create_connection(server.sockets[0].getsockname()) as client:
                client.send(b"x")
                await asyncio.sleep(0.02)
        await until(lambda: [name for _, name, _ in Protocol.seen].count("connection_lost") == 3)
        server.close()
        await turns(3)
        assert variable.get() == "unset"

    run(main())
    assert [found for _, name, found in Protocol.seen if name == "connection_made"] == ["unset"] * 3


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Handle.get_context came with 3.12")
def test_a_handle_tells_its_context(loop):
    context = contextvars.copy_context()
    for handle in (loop.call_soon(print, context=context), loop.call_later(1, print, context=context)):
        assert handle.get_context() is context
        handle.cancel()


# time


def test_the_loops_time_is_the_monotonic_clock(loop):
    for _ in range(100):
        before = time.monotonic()
        now = loop.time()
        assert before <= now <= time.monotonic()


def test_a_program_may_assign_a_clock_of_its_own(loop):
    loop.time = lambda: 12345.0
    assert loop.time() == 12345.0
    del loop.time
    assert abs(loop.time() - time.monotonic()) < 1


# identity


def test_transports_are_asyncio_transports(run, loop, sockets, tmp_path):
    async def main():
        made = []
        made.append((await transport_over(sockets[0]))[0])
        server = await loop.create_unix_server(Recorder, str(tmp_path / "socket"))
        made.append((await loop.create_unix_connection(Recorder, str(tmp_path / "socket")))[0])
        for transport in made:
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport, asyncio.ReadTransport)
            assert isinstance(transport, asyncio.WriteTransport)
            assert isinstance(transport, asyncio.BaseTransport)
        read_end, write_end = os.pipe()
        reader, _ = await loop.connect_read_pipe(Recorder, open(read_end, "rb", 0))
        writer, _ = await loop.connect_write_pipe(Recorder, open(write_end, "wb", 0))
        assert isinstance(reader, asyncio.ReadTransport)
        assert isinstance(writer, asyncio.WriteTransport)
        exited = loop.create_future()

        class Process(asyncio.SubprocessProtocol):
            def process_exited(self):
                exited.set_result(None)

        process, _ = await loop.subprocess_exec(Process, sys.executable, "-c", "", stdin=None, stdout=None, stderr=None)
        assert isinstance(process, asyncio.SubprocessTransport)
        await within(exited)
        assert isinstance(server, asyncio.AbstractServer)
        server.close()
        for transport in (*made, reader, writer, process):
            transport.close()
        await asyncio.sleep(0.02)

    run(main())


@pytest.mark.stock_differs("its datagram transport is one since 3.12", when=sys.version_info < (3, 12))
def test_a_datagram_transport_is_an_asyncio_datagram_transport(run, loop):
    async def main():
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (LOCALHOST, 0))
        transport.close()
        await turns(3)
        assert isinstance(transport, asyncio.DatagramTransport)

    run(main())


def test_a_loop_is_an_asyncio_loop(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)


def test_handles_are_asyncio_handles(loop):
    assert isinstance(loop.call_soon(print), asyncio.Handle)
    assert isinstance(loop.call_soon_threadsafe(print), asyncio.Handle)
    timer = loop.call_later(60, print)
    assert isinstance(timer, asyncio.TimerHandle)
    for handle in loop._ready:
        handle.cancel()
    timer.cancel()


def test_futures_and_tasks_are_asyncios_own(run, loop):
    async def main():
        assert type(asyncio.current_task()) is asyncio.Task

    assert isinstance(loop.create_future(), asyncio.Future)
    run(main())


def test_what_waits_to_run_can_be_looked_at(loop, sockets):
    """Debuggers and test plug-ins look at these three, though they are private."""
    soon = loop.call_soon(print, "soon")
    later = loop.call_later(60, print, "later")
    assert len(loop._ready) == 1
    assert soon in list(loop._ready)
    assert len(loop._scheduled) == 1
    assert later in list(loop._scheduled)
    soon.cancel()
    later.cancel()
    loop.add_reader(sockets[0], print)
    assert sockets[0].fileno() in loop._selector.get_map()
    loop.remove_reader(sockets[0])
    assert sockets[0].fileno() not in loop._selector.get_map()


# task factories


@pytest.mark.parametrize("keywords", [{}, {"name": "a name"}, {"context": None}], ids=["plain", "name", "context"])
def test_a_task_factory_gets_the_keywords_the_caller_passed_and_no_other(loop_under_test, keywords):
    """The same on the stock loop of this interpreter: what is passed on has changed between versions."""

    def calls_of(factory):
        loop = factory()
        calls = []

        def make(loop, coro, **given):
            calls.append(given)
            return asyncio.Task(coro, loop=loop, **given)

        async def child():
            pass

        async def main():
            loop.set_task_factory(make)
            task = loop.create_task(child(), **keywords)
            through_asyncio = asyncio.create_task(child(), **keywords)
            await asyncio.gather(task, through_asyncio)
            loop.set_task_factory(None)
            if "name" in keywords:
                assert task.get_name() == through_asyncio.get_name() == "a name"

        try:
            loop.run_until_complete(main())
        finally:
            loop.close()
        return calls

    assert calls_of(loop_under_test.factory) == calls_of(asyncio.SelectorEventLoop)


def test_a_task_factory_with_the_oldest_signature_serves(run, loop):
    def make(loop, coro):
        task = asyncio.Task(coro, loop=loop)
        made.append(task)
        return task

    made = []

    async def child():
        return 1

    async def main():
        loop.set_task_factory(make)
        assert loop.get_task_factory() is make
        task = loop.create_task(child())
        assert made == [task]
        assert await task == 1
        loop.set_task_factory(None)
        assert loop.get_task_factory() is None

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_the_eager_task_factory_runs_the_first_step_at_once(run, loop):
    order = []

    async def child():
        order.append("child")

    async def main():
        loop.set_task_factory(asyncio.eager_task_factory)
        task = loop.create_task(child())
        order.append("main")
        assert task.done()
        loop.set_task_factory(None)

    run(main())
    assert order == ["child", "main"]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="create_task takes eager_start since 3.14")
def test_create_task_passes_eager_start_on(run, loop):
    async def child():
        return 1

    async def main():
        assert loop.create_task(child(), eager_start=True).done()
        task = loop.create_task(child(), eager_start=False)
        assert not task.done()
        assert await task == 1

    run(main())


def test_run_until_complete_registers_asyncios_own_callback(run, loop):
    """By its identity libraries find the root task."""

    async def main():
        [callback, *_] = [callback for callback, _ in asyncio.current_task()._callbacks]
        assert callback is asyncio.base_events._run_until_complete_cb

    run(main())
