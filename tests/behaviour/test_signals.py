"""Signals: Python's handlers, the loop's own, Ctrl-C, the wake-up descriptor, and whose SIGCHLD is."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from .support import in_thread, turns, until, within


@contextlib.contextmanager
def handled(signum, handler):
    former = signal.signal(signum, handler)
    try:
        yield
    finally:
        signal.signal(signum, former)


def kill_soon(signum, delay=0.02):
    timer = threading.Timer(delay, os.kill, [os.getpid(), signum])
    timer.start()
    return timer


def test_a_python_signal_handler_runs_while_the_loop_is_blocked(loop, run):
    seen = []

    async def main():
        kill_soon(signal.SIGUSR1)
        started = time.monotonic()
        await asyncio.sleep(1)
        assert time.monotonic() - started >= 1
        return started

    with handled(signal.SIGUSR1, lambda signum, frame: seen.append(time.monotonic())):
        started = run(main())
    assert len(seen) == 1
    assert seen[0] - started < 1, "the handler waited for the loop to wake up"


def test_a_storm_of_signals_cuts_no_sleep_short_and_leaks_no_error(loop, run):
    seen = []

    def storm():
        for _ in range(200):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.0005)

    async def main():
        thread = threading.Thread(target=storm)
        thread.start()
        while thread.is_alive():
            before = loop.time()
            await asyncio.sleep(0.01)
            assert loop.time() - before >= 0.01
        thread.join()

    with handled(signal.SIGUSR1, lambda signum, frame: seen.append(signum)):
        run(main())
    assert len(seen) > 10


def test_what_a_python_signal_handler_raises_leaves_the_loop(loop, run):
    class Alarm(BaseException):
        pass

    def raise_it(signum, frame):
        raise Alarm

    loop.set_exception_handler(None)
    with handled(signal.SIGUSR1, raise_it):
        kill_soon(signal.SIGUSR1)
        with pytest.raises(Alarm):
            run(asyncio.sleep(5))
    assert not loop.is_running()
    run(turns(2))


def test_control_c_cancels_the_main_task_of_a_runner(new_event_loop):
    cancelled = []

    async def main():
        try:
            kill_soon(signal.SIGINT)
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
    assert cancelled == [True]


def test_control_c_leaves_run_forever(new_event_loop):
    with contextlib.closing(new_event_loop()) as loop:
        loop.call_later(5, loop.stop)
        kill_soon(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        assert not loop.is_running()


def test_add_signal_handler_calls_back_and_removing_restores_the_default(loop, run):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "second")  # Replaces the first.
    os.kill(os.getpid(), signal.SIGUSR1)
    run(until(lambda: seen))
    assert seen == ["second"]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    loop.add_signal_handler(signal.SIGINT, seen.append, "int")
    os.kill(os.getpid(), signal.SIGINT)
    run(until(lambda: "int" in seen))
    loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_several_loops_in_turn_each_get_their_signals(new_event_loop):
    for n in range(3):
        with contextlib.closing(new_event_loop()) as loop:
            seen = []
            loop.add_signal_handler(signal.SIGUSR1, seen.append, n)
            os.kill(os.getpid(), signal.SIGUSR1)
            loop.run_until_complete(until(lambda: seen))
            assert seen == [n]
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


@pytest.fixture
def wakeup():
    """A wake-up descriptor of the user's own."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    former = signal.set_wakeup_fd(theirs.fileno())
    yield theirs.fileno()
    signal.set_wakeup_fd(former)
    ours.close()
    theirs.close()


def current_wakeup_fd():
    number = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(number)
    return number


def test_a_loop_that_ran_leaves_the_wakeup_descriptor_of_the_process_as_it_was(new_event_loop, wakeup):
    with contextlib.closing(new_event_loop()) as loop:
        loop.run_until_complete(asyncio.sleep(0.001))
        assert current_wakeup_fd() == wakeup
    assert current_wakeup_fd() == wakeup


@pytest.mark.stock_differs("it sets the wake-up descriptor to -1 when its last signal handler is removed")
def test_a_loop_with_signal_handlers_gives_the_wakeup_descriptor_back(new_event_loop, wakeup):
    with contextlib.closing(new_event_loop()) as loop:
        seen = []
        loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
        os.kill(os.getpid(), signal.SIGUSR1)
        loop.run_until_complete(until(lambda: seen))
    assert current_wakeup_fd() == wakeup


def test_a_loop_in_another_thread_works_and_refuses_signal_handlers(new_event_loop):
    results = []

    def other_thread():
        async def main():
            loop = asyncio.get_running_loop()
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(5)")
            results.append(await within(process.wait(), 10))
            try:
                loop.add_signal_handler(signal.SIGUSR1, print)
            except RuntimeError as error:
                results.append(type(error))

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())

    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(asyncio.ThreadedChildWatcher())
    try:
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
    finally:
        if sys.version_info < (3, 12):
            asyncio.set_child_watcher(None)
    assert results == [5, RuntimeError]


def test_sigchld_belongs_to_the_user(loop, run):
    seen = []

    async def main():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
        assert await within(process.wait(), 10) == 3
        await until(lambda: seen)
        assert signal.getsignal(signal.SIGCHLD) is handler

    def handler(signum, frame):
        seen.append(signum)

    with handled(signal.SIGCHLD, handler):
        run(main())


def test_children_of_others_are_not_reaped(loop, run):
    async def main():
        other = subprocess.Popen([sys.executable, "-c", "raise SystemExit(9)"])
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
        assert await within(process.wait(), 10) == 3
        await asyncio.sleep(0.1)
        assert await in_thread(other.wait) == 9

    run(main())
