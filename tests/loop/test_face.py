"""What the loop says and does once per program or once per error; each test runs on asyncio's own loop too."""

import asyncio
import concurrent.futures
import contextvars
import gc
import logging
import selectors
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings

import ferrio
import pytest

LOOPS = [pytest.param(asyncio.SelectorEventLoop, id="stock"), pytest.param(ferrio.new_event_loop, id="ferrio")]


@pytest.fixture(params=LOOPS)
def loop(request):
    loop = request.param()
    yield loop
    if not loop.is_closed():
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def run_briefly(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def fail():
    raise ValueError("a bug")


# --- scheduling ------------------------------------------------------------------------------------------------------


def test_scheduling_methods_take_their_arguments_by_name_too(loop):
    ran = []
    context = contextvars.copy_context()
    handles = [
        loop.call_soon(callback=lambda: ran.append("soon"), context=context),
        loop.call_soon_threadsafe(callback=lambda: ran.append("threadsafe")),
        loop.call_later(delay=0, callback=lambda: ran.append("later")),
        loop.call_later(0, callback=lambda: ran.append("later 2")),
        loop.call_at(when=0, callback=lambda: ran.append("at")),
    ]
    assert handles[0]._context is context
    run_briefly(loop)
    run_briefly(loop)
    assert ran == ["soon", "threadsafe", "at", "later", "later 2"]


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(),
        lambda loop: loop.call_soon(callback=fail, nonsense=1),
        lambda loop: loop.call_soon(fail, callback=fail),
        lambda loop: loop.call_later(),
        lambda loop: loop.call_later(1),
        lambda loop: loop.call_later(None, fail),
        lambda loop: loop.call_later(1, fail, delay=2),
        lambda loop: loop.call_at(None, fail),
        lambda loop: loop.call_at("soon", fail),
        lambda loop: loop.call_at(callback=fail),
        lambda loop: loop.time(1),
        lambda loop: loop.create_task(),
        lambda loop: loop.set_task_factory(1),
        lambda loop: loop.set_exception_handler(1),
    ],
)
def test_arguments_that_make_no_sense_are_type_errors(loop, call):
    with pytest.raises(TypeError):
        call(loop).cancel()
        # asyncio's own loop meets the text only when it sorts its timers.
        loop.call_at(0, fail)
        loop.run_until_complete(asyncio.sleep(0))


# --- debug mode ------------------------------------------------------------------------------------------------------


def test_a_cancelled_handle_of_debug_mode_lets_go_and_still_says_what_it_was(loop):
    loop.set_debug(True)
    for handle in loop.call_soon(fail), loop.call_later(60, fail):
        handle.cancel()
        assert handle._callback is None and handle._args is None
        assert " cancelled " in repr(handle) and "fail()" in repr(handle) and __file__ in repr(handle)


def test_arguments_are_shown_in_debug_mode(loop):
    loop.set_debug(True)
    assert "print('secret'" in repr(loop.call_soon(print, "secret", 2))
    loop.set_debug(False)
    shown_always = "debug" not in asyncio.format_helpers._format_callback_source.__code__.co_varnames
    assert ("secret" in repr(loop.call_soon(print, "secret"))) == shown_always


def test_a_handle_that_cancels_itself_while_it_runs_keeps_its_arguments_until_it_returns(loop):
    loop.set_debug(True)
    seen = []

    def callback(value, more, many, arguments):
        handle.cancel()
        gc.collect()
        seen.append([value, more, many, arguments])

    handle = loop.call_soon(callback, ["a"], ["b"], ["c"], ["d"])
    run_briefly(loop)
    assert seen == [[["a"], ["b"], ["c"], ["d"]]]
    assert handle._args is None and "cancelled" in repr(handle)


def test_a_slow_task_is_named_and_a_fast_one_is_not(loop, caplog):
    async def slow_main():
        await asyncio.sleep(0)
        time.sleep(0.03)

    loop.set_debug(True)
    loop.slow_callback_duration = 0.02
    loop.run_until_complete(slow_main())
    (record,) = (record for record in caplog.records if "took" in record.message)
    assert record.levelname == "WARNING"
    assert record.message.startswith("Executing <Task") and "slow_main" in record.message
    assert 0.03 <= float(record.message.split()[-2]) < 3


def test_a_slow_callback_scheduled_before_debug_mode_is_named_too(loop, caplog):
    loop.slow_callback_duration = 0.02
    loop.call_soon(time.sleep, 0.03)
    loop.set_debug(True)
    run_briefly(loop)
    (record,) = (record for record in caplog.records if "took" in record.message)
    assert record.message.startswith("Executing <Handle sleep(0.03)")


def test_the_current_handle_is_known_in_debug_mode_only(loop):
    seen = []
    for debug in False, True:
        loop.set_debug(debug)
        handle = loop.call_soon(lambda: seen.append(loop._current_handle))
        run_briefly(loop)
    assert seen == [None, handle] and loop._current_handle is None


def test_the_default_handler_shows_where_the_current_handle_was_scheduled(loop, caplog):
    def complain():
        loop.default_exception_handler({"message": "a complaint"})

    loop.set_debug(True)
    loop.call_soon(complain)
    run_briefly(loop)
    lines = caplog.records[-1].message.splitlines()
    assert lines[:2] == ["a complaint", "handle_traceback: Handle created at (most recent call last):"]
    assert "loop.call_soon(complain)" in caplog.text


@pytest.mark.parametrize("how", ["environment", "dev mode", "argument", "neither"])
def test_debug_mode_is_chosen_as_asyncio_does(how):
    code = "import asyncio, ferrio\nasync def main(): return asyncio.get_running_loop().get_debug()\n"
    code += f"print(ferrio.run(main(), debug={True if how == 'argument' else None}))"
    interpreter = [sys.executable, "-X", "dev"] if how == "dev mode" else [sys.executable]
    environment = {"PYTHONASYNCIODEBUG": "1"} if how == "environment" else {}
    ran = subprocess.run([*interpreter, "-c", code], env=environment, capture_output=True, text=True, timeout=30)
    assert ran.stdout.split() == [str(how != "neither")], ran.stderr


def test_closing_is_logged_in_debug_mode(loop, caplog):
    caplog.set_level(logging.DEBUG, "asyncio")
    loop.set_debug(True)
    loop.close()
    assert any(record.message.startswith("Close <") for record in caplog.records)


# --- errors ----------------------------------------------------------------------------------------------------------


def test_the_exception_handler_is_called_from_where_the_error_is_caught(loop):
    seen = []
    loop.set_exception_handler(lambda loop, context: seen.append((sys.exc_info()[1], traceback.format_exc())))
    loop.call_soon(fail)
    run_briefly(loop)
    ((error, text),) = seen
    assert isinstance(error, ValueError) and "a bug" in text
    assert sys.exc_info() == (None, None, None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="CPython 3.11 calls the handler in the loop's own context")
@pytest.mark.parametrize("kind", ["task", "handle"])
def test_the_exception_handler_runs_in_the_context_of_what_failed(loop, kind):
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []
    loop.set_exception_handler(lambda loop, context: seen.append(variable.get()))

    async def failing_task():
        variable.set("inside")
        fail()

    def failing_callback():
        variable.set("inside")
        fail()

    if kind == "task":
        task = loop.create_task(failing_task())
        run_briefly(loop)
        run_briefly(loop)
        del task
        gc.collect()
    else:
        loop.call_soon(failing_callback)
        run_briefly(loop)
    assert seen == ["inside"]


def test_an_error_in_the_exception_handler_is_logged_with_what_it_was_about(loop, caplog):
    def broken(loop, context):
        raise LookupError("in the handler")

    loop.set_exception_handler(broken)
    loop.call_soon(fail)
    run_briefly(loop)
    (record,) = caplog.records
    assert record.message.startswith(
        "Unhandled error in exception handler\ncontext: {'message': 'Exception in callback fail"
    )
    assert record.exc_info[0] is LookupError


# --- what tools look at ----------------------------------------------------------------------------------------------


def test_ready_and_scheduled_list_the_handles(loop):
    ready = [loop.call_soon(print), loop.call_soon(fail)]
    timers = [loop.call_later(delay, fail) for delay in (30, 10, 20)]
    assert list(loop._ready) == ready
    assert sorted(loop._scheduled) == [timers[1], timers[2], timers[0]]
    assert loop._scheduled[0] is timers[1]
    timers[1].cancel()
    assert min(timer for timer in loop._scheduled if not timer.cancelled()) is timers[2]


def test_the_selector_maps_descriptors_to_the_handles_that_watch_them(loop):
    ours, peer = socket.socketpair()
    with ours, peer:
        loop.add_reader(ours, fail)
        loop.add_writer(ours, print)
        loop.add_writer(peer, print)
        both = loop._selector.get_map()[ours.fileno()]
        assert both.events == selectors.EVENT_READ | selectors.EVENT_WRITE and both.fd == ours.fileno()
        assert [handle._callback for handle in both.data] == [fail, print]
        reader, writer = loop._selector.get_key(peer).data
        assert reader is None and writer._callback is print
        loop.remove_reader(ours)
        loop.remove_writer(ours)
        assert ours.fileno() not in loop._selector.get_map()
        with pytest.raises(KeyError):
            loop._selector.get_key(ours)
        loop.remove_writer(peer)


def test_changing_these_lists_changes_nothing_in_the_loop():
    loop = ferrio.new_event_loop()
    ran = []
    loop.call_soon(ran.append, 1)
    loop._ready.clear()
    run_briefly(loop)
    loop.close()
    assert ran == [1]
    with pytest.raises(AttributeError):
        loop._ready = []


# --- executors -------------------------------------------------------------------------------------------------------


def test_the_default_executor_is_a_thread_pool_named_asyncio(loop):
    name = loop.run_until_complete(loop.run_in_executor(None, lambda: threading.current_thread().name))
    assert name.startswith("asyncio_")


@pytest.mark.parametrize("executor", [None, "threads", concurrent.futures.Executor()])
def test_only_a_thread_pool_can_be_the_default_executor(loop, executor):
    with pytest.raises(TypeError, match="ThreadPoolExecutor"):
        loop.set_default_executor(executor)


def test_shutting_the_default_executor_down_waits_and_forbids_more(loop):
    done = threading.Event()

    async def main():
        future = loop.run_in_executor(None, lambda: (time.sleep(0.05), done.set()))
        await loop.shutdown_default_executor()
        assert done.is_set()
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            loop.run_in_executor(None, print)
        await future

    loop.run_until_complete(main())


def test_a_timeout_ends_the_wait_for_the_default_executor_with_a_warning():
    # On ferrio's loop on every Python; asyncio's has the keyword from 3.12 on.
    loop = ferrio.new_event_loop()
    release = threading.Event()

    async def main():
        future = loop.run_in_executor(None, release.wait, 30)
        with pytest.warns(RuntimeWarning, match=r"within 0\.01 seconds"):
            await loop.shutdown_default_executor(timeout=0.01)
        release.set()
        await future

    loop.run_until_complete(main())
    loop.close()


def test_run_in_executor_wants_a_callable_in_debug_mode(loop):
    async def coroutine_function():
        raise AssertionError("is not called")

    loop.set_debug(True)
    with pytest.raises(TypeError, match=r"coroutines cannot be used with run_in_executor\(\)"):
        loop.run_in_executor(None, coroutine_function)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port", "keywords"),
    [
        ("127.0.0.1", 80, {"type": socket.SOCK_STREAM}),
        ("127.0.0.1", 80, {"type": socket.SOCK_DGRAM, "family": socket.AF_INET}),
        ("10.1.2.3", 0, {"type": socket.SOCK_STREAM, "proto": socket.IPPROTO_TCP}),
        ("127.0.0.1", 65535, {"type": int(socket.SOCK_STREAM), "family": 0}),
        ("127.0.0.1", 80, {}),
        ("127.0.0.1", "80", {"type": socket.SOCK_STREAM}),
        (b"127.0.0.1", 80, {"type": socket.SOCK_STREAM}),
        ("127.0.0.1", 80, {"type": socket.SOCK_STREAM, "flags": socket.AI_CANONNAME}),
        ("127.1", 80, {"type": socket.SOCK_STREAM}),
        ("::1", 80, {"type": socket.SOCK_STREAM}),
        (None, 80, {"type": socket.SOCK_STREAM, "flags": socket.AI_PASSIVE}),
    ],
)
def test_an_address_is_answered_as_the_socket_module_does(loop, host, port, keywords):
    infos = loop.run_until_complete(loop.getaddrinfo(host, port, **keywords))
    expected = socket.getaddrinfo(host, port, **keywords)
    assert infos == expected
    assert [[type(item) for item in info] for info in infos] == [[type(item) for item in info] for info in expected]


@pytest.mark.parametrize(
    ("port", "keywords"),
    [
        (80, {"type": socket.SOCK_STREAM, "proto": socket.IPPROTO_UDP}),
        (80, {"type": socket.SOCK_STREAM, "family": socket.AF_INET6}),
    ],
)
def test_what_does_not_go_together_is_an_error_of_getaddrinfo(loop, port, keywords):
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("127.0.0.1", port, **keywords)
    with pytest.raises(socket.gaierror):
        loop.run_until_complete(loop.getaddrinfo("127.0.0.1", port, **keywords))


def test_whoever_replaces_getaddrinfo_is_asked(loop, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **keywords: ["another"])
    assert loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)) == ["another"]


# --- async generators, the end ---------------------------------------------------------------------------------------


async def numbers(closed, error=None):
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        closed.append(True)
        if error:
            raise error


def test_an_abandoned_async_generator_is_closed_on_the_loop(loop):
    closed = []

    async def main():
        async for _ in numbers(closed):
            break
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert closed == [True]


def test_shutdown_asyncgens_closes_what_still_lives_and_reports_its_errors(loop):
    closed, contexts = [], []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    living = [numbers(closed), numbers(closed, ValueError("at the end"))]

    async def main():
        for generator in living:
            await anext(generator)
        await loop.shutdown_asyncgens()

    loop.run_until_complete(main())
    assert closed == [True, True]
    (context,) = contexts
    assert context["asyncgen"] is living[1] and "error occurred during closing" in context["message"]


def test_an_async_generator_that_begins_after_the_shutdown_is_warned_about(loop):
    async def main():
        await loop.shutdown_asyncgens()
        late = numbers([])
        with pytest.warns(ResourceWarning, match=r"was scheduled after loop\.shutdown_asyncgens\(\) call"):
            await anext(late)
        await late.aclose()

    loop.run_until_complete(main())


def test_a_loop_that_nobody_closed_says_so_and_closes_itself():
    loop = ferrio.new_event_loop()
    with pytest.warns(ResourceWarning, match="unclosed event loop <EventLoop running=False closed=False debug=False>"):
        del loop
        gc.collect()


def test_a_running_loop_cannot_be_closed_and_a_closed_one_not_be_used(loop):
    async def main():
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()

    loop.run_until_complete(main())
    loop.close()
    loop.close()
    for use in (lambda: loop.call_soon(print), lambda: loop.run_in_executor(None, print), loop.run_forever):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            use()


# --- policies and install --------------------------------------------------------------------------------------------

POLICIES = pytest.mark.skipif(sys.version_info >= (3, 16), reason="CPython 3.16 has no policies")


@pytest.fixture(params=["stock", "ferrio"])
def policy(request):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.DefaultEventLoopPolicy() if request.param == "stock" else ferrio.EventLoopPolicy()


@POLICIES
def test_a_policy_keeps_the_loop_of_its_thread(policy):
    loop = policy.new_event_loop()
    policy.set_event_loop(loop)
    assert policy.get_event_loop() is loop
    policy.set_event_loop(None)
    with pytest.raises(RuntimeError, match="There is no current event loop in thread 'MainThread'"):
        policy.get_event_loop()
    with pytest.raises(TypeError, match="AbstractEventLoop or None, not 'str'"):
        policy.set_event_loop("loop")
    loop.close()


@POLICIES
def test_a_policy_makes_a_loop_on_demand_where_asyncio_does(policy):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if sys.version_info >= (3, 14):
            with pytest.raises(RuntimeError):
                policy.get_event_loop()
        else:
            policy.get_event_loop().close()
    here = [(warning.category, warning.filename) for warning in caught]
    assert here == ([(DeprecationWarning, __file__)] if (3, 12) <= sys.version_info < (3, 14) else [])


@POLICIES
def test_a_policy_makes_no_loop_in_other_threads(policy):
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        with pytest.raises(RuntimeError, match="There is no current event loop in thread"):
            thread.submit(policy.get_event_loop).result()


def test_install_and_uninstall_nest():
    async def running():
        return type(asyncio.get_running_loop())

    before = asyncio.run(running())
    ferrio.install()
    ferrio.install()
    assert asyncio.run(running()) is ferrio.EventLoop
    ferrio.uninstall()
    assert asyncio.run(running()) is ferrio.EventLoop
    ferrio.uninstall()
    assert asyncio.run(running()) is before is not ferrio.EventLoop
    ferrio.uninstall()
    assert asyncio.run(running()) is before


def test_importing_ferrio_changes_nothing_in_asyncio():
    code = """
import asyncio, sys
modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("asyncio", "_asyncio")]
before = [dict(vars(module)) for module in modules]
import ferrio
assert [vars(module) for module in modules] == before
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")


# --- spinning ----------------------------------------------------------------------------------------------------------


def test_a_loop_that_spins_lets_other_threads_run_and_hears_them():
    loop = ferrio.EventLoop(spin=0.1)
    assert loop.spin == pytest.approx(0.1)

    async def main():
        for _ in range(3):
            future = loop.create_future()
            thread = threading.Thread(
                target=lambda future=future: loop.call_soon_threadsafe(future.set_result, "heard")
            )
            thread.start()
            assert await future == "heard"
            thread.join()
            begun = loop.time()
            await asyncio.sleep(0.01)
            assert loop.time() - begun >= 0.01

    loop.run_until_complete(main())
    loop.close()


@pytest.mark.parametrize("seconds", [-1e-6, 20, float("nan")])
def test_what_a_loop_cannot_spin_for_is_refused(seconds):
    with pytest.raises(ValueError, match="spin must be 0 to 0.1 seconds"):
        ferrio.EventLoop(spin=seconds)
    loop = ferrio.new_event_loop()
    with pytest.raises(TypeError):
        loop.spin = "20"
    assert loop.spin == 0
    loop.close()
