"""Signals: loop.add_signal_handler, signal.signal handlers while the loop sleeps, Ctrl-C, the wakeup descriptor."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import ferrio
import pytest

from .conftest import FACTORIES


@pytest.fixture(autouse=True)
def handlers_as_before():
    """Every test leaves the process's handlers as it found them."""
    watched = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD]
    former = {number: signal.getsignal(number) for number in watched}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def send_later(number, delay=0.05):
    """Sends a signal to this process from outside its interpreter, so that it meets a sleeping loop."""
    return subprocess.Popen(["sh", "-c", f"sleep {delay}; kill -{int(number)} {os.getpid()}"])


async def nap():
    await asyncio.sleep(10)


# --- add_signal_handler ----------------------------------------------------------------------------------------------


def test_a_handler_runs_in_the_loop_with_its_arguments(loop):
    seen = []

    def handler(*args):
        seen.append((args, asyncio.get_running_loop() is loop, threading.current_thread() is threading.main_thread()))
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handler, 1, "two", None, 4, 5)
    with send_later(signal.SIGUSR1):
        loop.run_forever()
    assert seen == [((1, "two", None, 4, 5), True, True)]


def test_a_handler_runs_as_often_as_its_signal_comes(loop):
    async def main():
        count = 0

        def handler():
            nonlocal count
            count += 1

        loop.add_signal_handler(signal.SIGUSR1, handler)
        for expected in range(1, 4):
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.sleep(0.01)
            assert count == expected

    loop.run_until_complete(main())


def test_a_signal_that_comes_before_the_loop_runs_is_not_lost(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "usr1")
    os.kill(os.getpid(), signal.SIGUSR1)
    assert seen == []
    loop.run_until_complete(asyncio.sleep(0.05))
    assert seen == ["usr1"]


def test_a_second_handler_replaces_the_first(loop):
    async def main():
        seen = []
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "first")
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "second")
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.01)
        assert seen == ["second"]

    loop.run_until_complete(main())


def test_a_handler_is_called_while_signal_signal_has_another_in_its_place(loop):
    """A server does that for as long as it serves."""
    seen = []

    async def main():
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "loop's")
        former = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append("server's"))
        with send_later(signal.SIGUSR1):
            while len(seen) < 2:
                await asyncio.sleep(0.01)
        signal.signal(signal.SIGUSR1, former)
        with send_later(signal.SIGUSR1):
            while len(seen) < 3:
                await asyncio.sleep(0.01)
        # Once each, and not once more.
        await asyncio.sleep(0.05)

    loop.run_until_complete(asyncio.wait_for(main(), 30))
    assert sorted(seen) == ["loop's", "loop's", "server's"]


def test_a_handler_that_was_removed_is_not_called_for_the_one_in_its_place(loop):
    seen = []

    async def main():
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "loop's")
        loop.remove_signal_handler(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, lambda number, frame: seen.append("program's"))
        with send_later(signal.SIGUSR1):
            while not seen:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)

    loop.run_until_complete(asyncio.wait_for(main(), 30))
    assert seen == ["program's"]


def test_a_handler_sees_the_context_it_was_added_in(loop):
    from contextvars import ContextVar

    variable = ContextVar("variable", default="outside")

    async def main():
        seen = []
        variable.set("inside")
        loop.add_signal_handler(signal.SIGUSR1, lambda: seen.append(variable.get()))
        variable.set("later")
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.01)
        assert seen == ["inside"]

    loop.run_until_complete(main())


def test_an_exception_in_a_handler_goes_to_the_exception_handler(loop):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    async def main():
        loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())
    assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]
    assert isinstance(contexts[0]["handle"], (asyncio.Handle, ferrio._ferrio.Handle))


def test_removing_a_handler_says_whether_there_was_one(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_removing_the_handler_of_sigint_gives_keyboard_interrupt_back(loop):
    loop.add_signal_handler(signal.SIGINT, print)
    loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_closing_the_loop_removes_its_handlers(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_handles_are_found_by_signal_number(loop):
    def handler():
        pass

    loop.add_signal_handler(signal.SIGUSR1, handler, 1)
    handle = loop._signal_handlers[signal.SIGUSR1]
    assert (handle._callback, tuple(handle._args)) == (handler, (1,))


async def coroutine():
    pass


@pytest.mark.parametrize(
    "number, callback, error, words",
    [
        (signal.SIGUSR1, coroutine, TypeError, "coroutines cannot be used"),
        ("SIGUSR1", print, TypeError, "sig must be an int, not 'SIGUSR1'"),
        (1.5, print, TypeError, "sig must be an int, not 1.5"),
        (None, print, TypeError, "sig must be an int, not None"),
        (0, print, ValueError, "invalid signal number 0"),
        (-1, print, ValueError, "invalid signal number -1"),
        (signal.NSIG + 1, print, ValueError, f"invalid signal number {signal.NSIG + 1}"),
        (2**70, print, ValueError, f"invalid signal number {2**70}"),
        (signal.SIGKILL, print, RuntimeError, "cannot be caught"),
        (signal.SIGSTOP, print, RuntimeError, "cannot be caught"),
    ],
)
def test_what_is_no_signal_or_no_handler_is_refused_as_asyncio_refuses_it(loop, number, callback, error, words):
    with pytest.raises(error, match=words):
        loop.add_signal_handler(number, callback)
    assert not loop._signal_handlers


@pytest.mark.parametrize("number, error", [("x", TypeError), (0, ValueError), (signal.NSIG + 1, ValueError)])
def test_remove_signal_handler_checks_its_signal(loop, number, error):
    with pytest.raises(error):
        loop.remove_signal_handler(number)


def test_a_coroutine_object_is_no_handler(loop):
    made = coroutine()
    with pytest.raises(TypeError, match="coroutines cannot be used"):
        loop.add_signal_handler(signal.SIGUSR1, made)
    made.close()


def test_a_closed_loop_takes_no_handler(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.add_signal_handler(signal.SIGUSR1, print)


def test_only_the_main_thread_may_add_handlers(new_loop):
    caught = []

    def other_thread():
        loop = new_loop()
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except RuntimeError as error:
            caught.append((str(error), dict(loop._signal_handlers)))
        loop.close()

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join()
    [(message, handlers)] = caught
    assert "only works in main thread" in message
    assert not handlers


# --- handlers of signal.signal ---------------------------------------------------------------------------------------


def test_a_handler_of_signal_signal_runs_while_the_loop_sleeps(loop):
    async def main():
        arrived = asyncio.Event()
        signal.signal(signal.SIGTERM, lambda number, frame: loop.call_soon_threadsafe(arrived.set))
        with send_later(signal.SIGTERM):
            started = time.monotonic()
            await asyncio.wait_for(arrived.wait(), 5)
            return time.monotonic() - started

    assert loop.run_until_complete(main()) < 3


# Only on ferrio: the stock loop sleeps on if the signal does not interrupt its own thread, and after a handler that
# does not use call_soon_threadsafe.
def test_a_signal_that_meets_another_thread_wakes_the_loop_too():
    async def main():
        arrived = asyncio.Event()
        signal.signal(signal.SIGUSR1, lambda number, frame: arrived.set())

        def other_thread():
            time.sleep(0.05)
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

        thread = threading.Thread(target=other_thread)
        thread.start()
        await asyncio.wait_for(arrived.wait(), 5)
        thread.join()

    ferrio.run(main())


def test_what_a_handler_of_signal_signal_raises_ends_the_run(loop):
    class Ended(Exception):
        pass

    def handler(number, frame):
        raise Ended

    signal.signal(signal.SIGUSR1, handler)
    with send_later(signal.SIGUSR1), pytest.raises(Ended):
        loop.run_until_complete(nap())
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0, "it can run again")) == "it can run again"
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


def test_keyboard_interrupt_leaves_at_once_and_the_rest_stays_queued(loop):
    ran = []

    def interrupt():
        raise KeyboardInterrupt

    loop.call_soon(ran.append, 1)
    loop.call_soon(interrupt)
    loop.call_soon(ran.append, 2)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert ran == [1]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == [1, 2]


def test_ctrl_c_leaves_a_sleeping_loop(loop):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with send_later(signal.SIGINT), pytest.raises(KeyboardInterrupt):
        loop.run_forever()


def test_ctrl_c_cancels_the_main_task_of_asyncio_run(run):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seen = []

    async def main():
        try:
            await nap()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    with send_later(signal.SIGINT), pytest.raises(KeyboardInterrupt):
        run(main())
    assert seen == ["cancelled", "cleaned up"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


SECOND_CTRL_C = textwrap.dedent(
    """
    import asyncio, os, signal, sys, threading, ferrio

    def interrupt_later(delay):
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()

    async def stubborn():
        interrupt_later(0.05)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            print("cancelled", flush=True)
        interrupt_later(0.05)
        await asyncio.sleep(10)
        print("never")

    factory = {"stock": asyncio.SelectorEventLoop, "ferrio": ferrio.new_event_loop}[sys.argv[1]]
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(stubborn())
    except KeyboardInterrupt:
        print("interrupted")
    """
)


@pytest.mark.parametrize("name", FACTORIES)
def test_a_second_ctrl_c_ends_a_task_that_ignores_the_first(name):
    done = subprocess.run(
        [sys.executable, "-c", SECOND_CTRL_C, name], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["cancelled", "interrupted"], "")


# --- the wakeup descriptor -------------------------------------------------------------------------------------------


@pytest.fixture
def wakeup_sockets():
    """A wakeup descriptor of the user's own, installed."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    former = signal.set_wakeup_fd(writer.fileno())
    yield reader, writer
    signal.set_wakeup_fd(former)
    reader.close()
    writer.close()


def present_wakeup_fd():
    present = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(present)
    return present


def test_after_a_run_the_wakeup_descriptor_is_the_former_one(loop, wakeup_sockets):
    _, writer = wakeup_sockets
    loop.run_until_complete(asyncio.sleep(0))
    assert present_wakeup_fd() == writer.fileno()


def test_during_a_run_the_users_wakeup_descriptor_still_hears_of_signals(loop, wakeup_sockets):
    reader, _ = wakeup_sockets
    signal.signal(signal.SIGUSR1, lambda number, frame: None)

    async def main():
        heard = loop.create_future()
        loop.add_reader(reader, lambda: heard.done() or heard.set_result(reader.recv(10)))
        os.kill(os.getpid(), signal.SIGUSR1)
        try:
            return await asyncio.wait_for(heard, 5)
        finally:
            loop.remove_reader(reader)

    assert loop.run_until_complete(main()) == bytes([signal.SIGUSR1])


def test_a_wakeup_descriptor_that_is_set_during_a_run_stays(loop, wakeup_sockets):
    reader, _ = wakeup_sockets

    async def main():
        signal.set_wakeup_fd(reader.fileno(), warn_on_full_buffer=False)

    loop.run_until_complete(main())
    assert present_wakeup_fd() == reader.fileno()


def test_several_loops_in_turn_each_get_their_signals(new_loop):
    loops = [new_loop() for _ in range(3)]
    try:
        for _ in range(2):
            for number, loop in enumerate(loops):
                heard = loop.create_future()
                loop.add_signal_handler(signal.SIGUSR1, heard.set_result, number)
                with send_later(signal.SIGUSR1, 0.02):
                    assert loop.run_until_complete(asyncio.wait_for(heard, 10)) == number
                loop.remove_signal_handler(signal.SIGUSR1)
    finally:
        for loop in loops:
            loop.close()
    assert present_wakeup_fd() == -1


def test_a_loop_in_another_thread_leaves_the_wakeup_descriptor_alone(new_loop):
    other = new_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), other).result(5)
    during_the_run = present_wakeup_fd()
    other.call_soon_threadsafe(other.stop)
    thread.join()
    other.close()
    assert during_the_run == -1


def test_a_loop_that_is_run_a_thousand_times_opens_one_pipe(loop):
    def descriptors():
        return [number for number in range(256) if is_open(number)]

    loop.run_until_complete(asyncio.sleep(0))
    before = descriptors()
    for _ in range(1000):
        loop.run_until_complete(asyncio.sleep(0))
    assert descriptors() == before


def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
