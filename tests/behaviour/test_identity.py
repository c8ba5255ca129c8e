"""A loop is what libraries take it for: the conventions they rely on one by one, and asyncio's members one by one.

The members are read from the stock loop of the running interpreter, so that a newer Python asks for what it has.
"""

import asyncio
import contextlib
import inspect
import os
import socket
import sys
import threading
import unittest.mock
import weakref
from asyncio import base_events, selector_events, unix_events

import pytest

from .support import LOCALHOST, Recorder, in_thread, transport_over, turns, until, within

# How libraries get a loop and what they do with it


def test_a_factory_takes_no_arguments(new_event_loop):
    with contextlib.closing(new_event_loop()) as loop:
        assert isinstance(loop, asyncio.AbstractEventLoop)


@pytest.mark.ferrio_only("these are ferrio's names")
def test_ferrio_offers_a_function_and_a_class_that_make_loops():
    import ferrio

    for factory in (ferrio.new_event_loop, ferrio.EventLoop):
        with contextlib.closing(factory()) as loop:
            assert isinstance(loop, ferrio.EventLoop)
    assert inspect.isclass(ferrio.EventLoop)
    assert issubclass(ferrio.EventLoop, asyncio.AbstractEventLoop)
    assert isinstance(ferrio.__version__, str)


@pytest.mark.ferrio_only("these are ferrio's names")
@pytest.mark.filterwarnings("error")
def test_ferrio_run_runs_on_a_ferrio_loop():
    import ferrio

    async def main(value):
        assert isinstance(asyncio.get_running_loop(), ferrio.EventLoop)
        return value

    assert ferrio.run(main(5)) == 5
    assert ferrio.run(main(5), debug=True) == 5
    with pytest.raises(RuntimeError):
        asyncio.run(_run_inside(ferrio))
    with pytest.raises((TypeError, ValueError)):
        ferrio.run("not a coroutine")


async def _run_inside(ferrio):
    coroutine = asyncio.sleep(0)
    try:
        ferrio.run(coroutine)
    finally:
        coroutine.close()


def test_the_loop_may_be_set_as_the_current_one(new_event_loop):
    with contextlib.closing(new_event_loop()) as loop:
        asyncio.set_event_loop(loop)
        assert asyncio.get_event_loop() is loop
        asyncio.set_event_loop(None)


def test_a_runner_and_run_take_the_factory(new_event_loop):
    async def main():
        return asyncio.get_running_loop()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(main()) is runner.get_loop()
    if sys.version_info >= (3, 12):
        assert asyncio.run(main(), loop_factory=new_event_loop).is_closed()
        with pytest.raises(ZeroDivisionError):
            asyncio.run(_fails(), loop_factory=new_event_loop)


async def _fails():
    raise ZeroDivisionError


def test_a_loop_is_running_only_while_it_runs(loop, run):
    seen = []

    async def main():
        seen.append(
            (asyncio.get_running_loop() is loop, asyncio.get_event_loop() is loop, loop.is_running(), loop.is_closed())
        )

    assert not loop.is_running()
    run(main())
    assert seen == [(True, True, True, False)]
    assert not loop.is_running()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_slow_callback_duration_may_be_set(loop):
    assert loop.slow_callback_duration == 0.1
    loop.slow_callback_duration = 0.5
    assert loop.slow_callback_duration == 0.5


def test_methods_may_be_replaced_on_the_instance(loop, run):
    """As programs do that configure a loop: the clock, the executor, the resolver."""
    calls = []
    original = loop.run_in_executor

    def run_in_executor(executor, function, *args):
        calls.append(function)
        return original(executor, function, *args)

    loop.run_in_executor = run_in_executor

    async def main():
        return await asyncio.to_thread(threading.get_ident)

    assert run(main()) != threading.get_ident()
    assert len(calls) == 1


def test_a_subclass_may_override_methods_and_keep_state(new_event_loop):
    with contextlib.closing(new_event_loop()) as plain:
        base = type(plain)

    class Counting(base):
        def __init__(self):
            super().__init__()
            self.tasks = 0

        def create_task(self, coro, **keywords):
            self.tasks += 1
            return super().create_task(coro, **keywords)

    with contextlib.closing(Counting()) as loop:
        loop.run_until_complete(asyncio.wait_for(asyncio.sleep(0), 1))
        assert loop.tasks >= 1


def test_two_loops_are_two_keys(new_event_loop):
    with contextlib.closing(new_event_loop()) as one, contextlib.closing(new_event_loop()) as two:
        assert one != two
        assert len({one: 1, two: 2}) == 2
        assert len(weakref.WeakSet([one, two])) == 2


def test_the_stdlib_task_runs_on_the_loop_without_create_task(loop, run):
    """As aiohttp makes them: `asyncio.Task(coro, loop=loop)`."""

    async def child():
        await asyncio.sleep(0)
        return 5

    async def main():
        assert await asyncio.Task(child(), loop=loop) == 5
        if sys.version_info >= (3, 12):
            assert await asyncio.Task(child(), loop=loop, eager_start=True) == 5

    run(main())


def test_tasks_are_found_and_cancelled_by_asyncio(loop, run):
    async def main():
        tasks = {asyncio.ensure_future(asyncio.sleep(5)) for _ in range(3)}
        await turns()
        assert asyncio.all_tasks() == tasks | {asyncio.current_task()}
        for task in tasks:
            assert task.get_loop() is loop
            assert task._fut_waiter is not None
            task.cancel()
        done, _ = await asyncio.wait(tasks)
        assert all(task.cancelled() for task in done)

    run(main())


def test_another_loop_may_be_marked_as_running_inside_a_callback(loop, run):
    """As Temporal's workflows do, which are loops of their own inside a callback of this one."""
    seen = []

    def callback():
        other = asyncio.SelectorEventLoop()
        asyncio._set_running_loop(None)
        try:
            seen.append(other.run_until_complete(asyncio.sleep(0, "inner")))
        finally:
            asyncio._set_running_loop(loop)
            other.close()

    async def main():
        loop.call_soon(callback)
        await turns(3)
        assert asyncio.get_running_loop() is loop

    run(main())
    assert seen == ["inner"]


def test_async_generators_are_shut_down_with_the_loop(new_event_loop):
    closed = []

    async def generator():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def main():
        nonlocal kept
        kept = generator()
        await anext(kept)

    kept = None
    hooks = sys.get_asyncgen_hooks()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
    assert closed == [True]
    assert sys.get_asyncgen_hooks() == hooks


def test_an_async_generator_nobody_holds_is_closed_by_the_loop(loop, run):
    closed = []

    async def generator():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def main():
        async for _ in generator():
            break
        await until(lambda: closed)

    run(main())


def test_call_soon_threadsafe_is_what_other_threads_get_futures_through(loop, run):
    async def add(a, b):
        await asyncio.sleep(0.001)
        return a + b

    def other_thread():
        return asyncio.run_coroutine_threadsafe(add(2, 3), loop).result(5)

    async def main():
        return await in_thread(other_thread)

    assert run(main()) == 5


def test_getaddrinfo_is_a_coroutine_method_with_keyword_only_options(loop, run):
    assert asyncio.iscoroutine(coroutine := loop.getaddrinfo(LOCALHOST, 80, family=0, type=0, proto=0, flags=0))
    assert run(coroutine) == socket.getaddrinfo(LOCALHOST, 80)


def test_the_coroutine_methods_return_coroutines(loop):
    """Not futures: `create_task` takes nothing else."""
    for name in COROUTINE_METHODS & {"sock_recv", "sock_accept", "create_server", "getnameinfo", "shutdown_asyncgens"}:
        arguments = {
            "sock_recv": (socket.socket(), 1),
            "sock_accept": (socket.socket(),),
            "create_server": (Recorder, LOCALHOST, 0),
            "getnameinfo": ((LOCALHOST, 80),),
            "shutdown_asyncgens": (),
        }[name]
        coroutine = getattr(loop, name)(*arguments)
        assert asyncio.iscoroutine(coroutine), name
        assert hasattr(coroutine, "send") and hasattr(coroutine, "throw") and hasattr(coroutine, "close"), name
        coroutine.close()
        if arguments and isinstance(arguments[0], socket.socket):
            arguments[0].close()


def test_the_coroutine_methods_are_coroutine_functions(loop):
    """`unittest.mock` asks, to find out what to put into their places. (Those that move bytes need not be.)"""
    move_bytes = {"sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendto"}
    others = {name for name in COROUTINE_METHODS if not inspect.iscoroutinefunction(getattr(loop, name))}
    assert others <= move_bytes


def test_a_mocked_coroutine_method_is_awaited(loop, run):
    async def main():
        with unittest.mock.patch.object(loop, "sock_connect", return_value=5) as connect:
            assert await loop.sock_connect("socket", "address") == 5
        connect.assert_awaited_once_with("socket", "address")

    run(main())


def test_a_coroutine_method_has_its_name_in_a_traceback(loop, run):
    async def main():
        await loop.sock_connect("no socket", 1)

    with pytest.raises((AttributeError, TypeError)) as raised:
        run(main())
    assert "sock_connect" in [entry.name for entry in raised.traceback]


def test_what_a_task_waits_for_says_whether_it_is_done(loop, run, sockets):
    """Libraries ask, to find out whether all tasks are blocked."""
    left, _ = sockets

    async def child():
        process = await asyncio.create_subprocess_exec("sleep", "60")
        try:
            await process.wait()
        finally:
            process.kill()

    async def main():
        for coroutine in loop.sock_recv(left, 1), child(), asyncio.sleep(60):
            task = asyncio.ensure_future(coroutine)
            await until(lambda: task._fut_waiter is not None and task._fut_waiter.done() is False)
            assert task._fut_waiter.cancelled() is False
            task.cancel()
            waiter = task._fut_waiter
            assert waiter.done() is waiter.cancelled() is True
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task._fut_waiter is None

    run(main())


def test_the_repr_tells_the_state(new_event_loop):
    with contextlib.closing(new_event_loop()) as loop:
        assert "running=False closed=False debug=False" in repr(loop)
        loop.set_debug(True)
        assert "debug=True" in repr(loop)
    assert "closed=True" in repr(loop)


# Members


STOCK_CLASSES = [
    asyncio.AbstractEventLoop,
    base_events.BaseEventLoop,
    selector_events.BaseSelectorEventLoop,
    unix_events._UnixSelectorEventLoop,
]
LOOP_MEMBERS = sorted(
    {name for cls in STOCK_CLASSES for name in vars(cls) if not name.startswith("_")} | {"slow_callback_duration"}
)


def signature_of(name):
    """The signature a stock loop of this interpreter answers to: the implementation's, not the abstract class's."""
    return inspect.signature(getattr(unix_events._UnixSelectorEventLoop, name))


CALLABLE_MEMBERS = [name for name in LOOP_MEMBERS if callable(getattr(unix_events._UnixSelectorEventLoop, name, None))]
COROUTINE_METHODS = {
    name for name in CALLABLE_MEMBERS if inspect.iscoroutinefunction(getattr(unix_events._UnixSelectorEventLoop, name))
}


def keywords_of(name):
    return [
        parameter.name
        for parameter in signature_of(name).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
        or parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and parameter.name != "self"
    ]


@pytest.mark.parametrize("name", LOOP_MEMBERS)
def test_the_loop_has_every_member_of_asyncios(loop, name):
    assert hasattr(loop, name)
    member = getattr(loop, name)
    if name in CALLABLE_MEMBERS:
        assert callable(member)
        assert getattr(type(loop), name) is not getattr(asyncio.AbstractEventLoop, name, None), (
            "still the abstract method"
        )


def members_with_keywords():
    return [(name, keyword) for name in CALLABLE_MEMBERS for keyword in keywords_of(name)]


@pytest.mark.parametrize("name, keyword", members_with_keywords(), ids=lambda value: value)
def test_every_keyword_of_every_method_is_accepted(loop, name, keyword):
    """Calling with the keyword alone fails for want of the rest, but never because the keyword is unknown."""
    method = getattr(loop, name)
    value = object()
    with contextlib.suppress(Exception):
        signature = inspect.signature(method)
        if keyword in signature.parameters or any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            return
    required = [
        parameter
        for parameter in signature_of(name).parameters.values()
        if parameter.name not in ("self", keyword)
        and parameter.default is parameter.empty
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    try:
        result = method(*[value for _ in required], **{keyword: value})
        if inspect.iscoroutine(result):
            loop.run_until_complete(asyncio.wait_for(result, 1))
    except TypeError as error:
        assert "unexpected keyword argument" not in str(error) and "takes no keyword arguments" not in str(error), str(
            error
        )
    except Exception:
        pass  # Anything else is about the values.


@pytest.mark.parametrize("name", CALLABLE_MEMBERS)
def test_keyword_defaults_are_asyncios(loop, name):
    """Where a signature can be read, it agrees with the stock loop's in names, defaults and order."""
    stock = [p for p in signature_of(name).parameters.values() if p.name != "self"]
    try:
        ours = inspect.signature(getattr(loop, name))
    except ValueError:
        pytest.skip("a native method without a signature text; the test of keywords calls it")
    parameters = ours.parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) or [p.kind for p in parameters.values()] == [
        inspect.Parameter.VAR_POSITIONAL
    ]:
        pytest.skip("forwards whatever it is given; the test of keywords calls it")
    for parameter in stock:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        assert parameter.name in parameters
        assert parameters[parameter.name].default == parameter.default, parameter.name

    def positional(all):
        return [p.name for p in all if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]

    assert positional(parameters.values())[: len(positional(stock))] == positional(stock)


def public(cls):
    return sorted(name for name in dir(cls) if not name.startswith("_"))


def has_all(thing, cls):
    missing = [name for name in public(cls) if not hasattr(thing, name)]
    assert missing == [], f"{type(thing).__name__} lacks what {cls.__name__} has"


def still_abstract(thing, names):
    found = []
    for name in names:
        for cls in (asyncio.Transport, asyncio.DatagramTransport, asyncio.SubprocessTransport, asyncio.AbstractServer):
            if getattr(type(thing), name, None) is getattr(cls, name, ...):
                found.append(name)
    return found


def test_handles_have_asyncios_members(loop):
    has_all(loop.call_soon(print), asyncio.Handle)
    timer = loop.call_later(60, print)
    has_all(timer, asyncio.TimerHandle)
    assert abs(timer.when() - loop.time() - 60) < 1
    for handle in list(loop._ready):
        handle.cancel()
    timer.cancel()


def test_timer_handles_compare_by_deadline(loop):
    when = loop.time() + 60
    early, late, same = loop.call_at(when, int), loop.call_at(when + 1, int), loop.call_at(when, int)
    assert early < late and late > early and early <= same and same >= early
    assert hash(early) == hash(early)
    assert early == early and early != late
    assert sorted([late, early]) == [early, late]
    with pytest.raises(TypeError):
        assert early < 5
    for handle in (early, late, same):
        handle.cancel()
    assert early.when() == when


def test_handles_describe_themselves(loop):
    def a_callback_with_a_name():
        pass

    handle, timer = loop.call_soon(a_callback_with_a_name), loop.call_later(60, a_callback_with_a_name)
    assert repr(handle).startswith("<Handle ") and "a_callback_with_a_name" in repr(handle)
    assert repr(timer).startswith("<TimerHandle ") and "when=" in repr(timer)
    handle.cancel()
    timer.cancel()
    assert "cancelled" in repr(handle) and "cancelled" in repr(timer)


def test_stream_transports_have_asyncios_members(loop, run, sockets, tmp_path):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        server = await loop.create_unix_server(Recorder, str(tmp_path / "socket"))
        over_unix, unix_protocol = await loop.create_unix_connection(Recorder, str(tmp_path / "socket"))
        for each in (transport, over_unix):
            has_all(each, asyncio.Transport)
            assert (
                still_abstract(
                    each, ["write", "write_eof", "close", "abort", "pause_reading", "is_closing", "set_protocol"]
                )
                == []
            )
            assert repr(each).startswith("<")
            each.close()
        await within(protocol.lost)
        await within(unix_protocol.lost)
        server.close()

    run(main())


def test_a_tls_transport_has_asyncios_members(loop, run, sockets, client_tls, server_tls):
    async def main():
        other = asyncio.ensure_future(loop.connect_accepted_socket(Recorder, sockets[1], ssl=server_tls))
        transport, protocol = await transport_over(sockets[0], ssl=client_tls, server_hostname="localhost")
        has_all(transport, asyncio.Transport)
        transport.close()
        (await other)[0].close()
        await within(protocol.lost)

    run(main())


def test_a_datagram_transport_has_asyncios_members(loop, run):
    async def main():
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (LOCALHOST, 0))
        has_all(transport, asyncio.DatagramTransport)
        transport.close()
        await turns(3)

    run(main())


def test_pipe_transports_have_asyncios_members(loop, run):
    async def main():
        read_end, write_end = os.pipe()
        reader, reading = await loop.connect_read_pipe(Recorder, open(read_end, "rb", 0))
        writer, writing = await loop.connect_write_pipe(Recorder, open(write_end, "wb", 0))
        has_all(reader, asyncio.ReadTransport)
        has_all(writer, asyncio.WriteTransport)
        assert reader.get_extra_info("pipe").fileno() == read_end
        assert writer.get_extra_info("pipe").fileno() == write_end
        writer.close()
        await within(writing.lost)
        await within(reading.lost)

    run(main())


def test_a_subprocess_transport_has_asyncios_members(loop, run):
    class Protocol(asyncio.SubprocessProtocol):
        def __init__(self):
            self.exited = asyncio.get_running_loop().create_future()

        def process_exited(self):
            self.exited.set_result(None)

    async def main():
        transport, protocol = await loop.subprocess_exec(Protocol, sys.executable, "-c", "input()", stderr=None)
        has_all(transport, asyncio.SubprocessTransport)
        assert transport.get_extra_info("subprocess").pid == transport.get_pid()
        assert transport.get_returncode() is None
        for fd in (0, 1):
            assert isinstance(transport.get_pipe_transport(fd), asyncio.BaseTransport)
        assert transport.get_pipe_transport(2) is None
        transport.kill()
        await within(protocol.exited)
        assert transport.get_returncode() == -9
        transport.close()
        await turns(5)

    run(main())


def test_private_names_that_libraries_look_at_are_there(loop, run, sockets, client_tls, server_tls):
    async def main():
        assert loop._closed is False
        transport, _ = await transport_over(sockets[0])
        assert transport._paused is False
        transport.pause_reading()
        assert transport._paused is True
        transport.close()
        plain = await loop.create_server(Recorder, LOCALHOST, 0)
        async with plain, await loop.create_server(Recorder, LOCALHOST, 0, ssl=server_tls) as secure:
            assert plain._ssl_context is None
            assert secure._ssl_context is server_tls
            address = secure.sockets[0].getsockname()
            options = {"ssl": client_tls, "server_hostname": "localhost"}
            transport, protocol = await within(loop.create_connection(Recorder, *address, **options))
            assert transport._ssl_protocol._sslcontext is client_tls
            transport.abort()
            await within(protocol.lost)

    run(main())
    loop.close()
    assert loop._closed is True


def test_a_server_has_asyncios_members(loop, run):
    async def main():
        async with await loop.create_server(Recorder, LOCALHOST, 0) as server:
            has_all(server, asyncio.AbstractServer)
            has_all(server, asyncio.Server)
            assert server.get_loop() is loop
            assert server.is_serving()
            [sock] = server.sockets
            assert isinstance(sock, asyncio.trsock.TransportSocket)
            assert isinstance(server.sockets, tuple)
        assert not server.is_serving()
        assert server.sockets == ()
        late = await loop.create_server(Recorder, LOCALHOST, 0, start_serving=False)
        assert not late.is_serving()
        await late.start_serving()
        assert late.is_serving()
        serving = asyncio.ensure_future(late.serve_forever())
        await turns(2)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not late.is_serving()

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="create_unix_server removes its socket since 3.13")
def test_a_unix_server_removes_its_socket_unless_told_not_to(loop, run, tmp_path):
    async def main():
        for cleanup in (True, False):
            path = tmp_path / f"socket-{cleanup}"
            server = await loop.create_unix_server(Recorder, path, cleanup_socket=cleanup)
            server.close()
            await within(server.wait_closed())
            assert path.exists() is not cleanup

    run(main())
