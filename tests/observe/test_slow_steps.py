"""Slow steps are told while they block the loop, without debug mode, by a thread that is there only for that."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time

import ferrio
import pytest
from ferrio import observe


def block(seconds):
    """Return when the loop has been blocked for so long."""
    time.sleep(seconds)


async def slow_report(seconds=0.4):
    block(seconds)


@pytest.fixture
def told():
    """What on_slow_step() tells, of steps of a tenth of a second."""
    slow = []
    remove = observe.on_slow_step(slow.append, 0.1)
    yield slow
    remove()


def test_a_slow_step_is_told_while_it_lasts_and_when_it_is_over(told):
    during = []

    async def report():
        deadline = time.monotonic() + 30
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
        during.extend(told)

    async def main():
        task = asyncio.create_task(report(), name="the report")
        await task
        await _until(lambda: len(told) == 2)
        return task

    task = ferrio.run(main())
    (first,) = during
    assert first is told[0] and first.task is task and not first.finished and first.seconds >= 0.1
    assert "time.sleep(0.01)" in first.stack[-1] and "in report" in first.stack[-1]
    assert not any("runners.py" in line for line in first.stack)
    assert told[1].finished and told[1].task is task and told[1].seconds >= first.seconds


async def _until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_a_computation_in_python_is_told_too(told):
    async def compute():
        deadline = time.monotonic() + 30
        while not told and time.monotonic() < deadline:
            sum(range(1000))

    ferrio.run(compute())
    assert told and any("sum(range(1000))" in line or "in compute" in line for line in told[0].stack)


def test_a_callback_is_told_without_a_task(told):
    async def main():
        asyncio.get_running_loop().call_soon(block, 0.3)
        await asyncio.sleep(0.01)
        await _until(lambda: len(told) == 2)

    ferrio.run(main())
    assert told[0].task is None and "in block" in told[0].stack[-1]


def test_short_steps_and_sleeping_loops_are_not_told(told):
    async def main():
        for _ in range(20):
            block(0.02)
            await asyncio.sleep(0)
        await asyncio.sleep(0.5)

    ferrio.run(main())
    assert told == []


def test_a_threshold_on_the_loop_logs(caplog):
    async def main():
        loop = asyncio.get_running_loop()
        assert loop.slow_callback_duration == 0.1
        loop.slow_callback_duration = 0.15
        await asyncio.create_task(slow_report(), name="reporter")
        await _until(lambda: len(caplog.records) == 2)
        loop.slow_callback_duration = float("inf")
        block(0.4)

    with caplog.at_level("WARNING", "asyncio"):
        ferrio.run(main())
    blocking, blocked = [record.getMessage() for record in caplog.records]
    assert blocking.startswith("reporter (slow_report) is blocking the loop, for 0.") and "in block\n" in blocking
    assert blocked.startswith("reporter (slow_report) has blocked the loop for 0.")


def test_debug_mode_has_asyncios_own_message_and_no_other(caplog):
    async def main():
        asyncio.get_running_loop().slow_callback_duration = 0.1
        await asyncio.create_task(slow_report())
        await asyncio.sleep(0.1)

    with caplog.at_level("WARNING", "asyncio"):
        ferrio.run(main(), debug=True)
    (record,) = caplog.records
    assert record.getMessage().startswith("Executing <Task") and "took 0." in record.getMessage()


def test_what_a_callback_raises_is_logged(caplog):
    def fail(slow):
        raise ValueError("in the callback")

    remove = observe.on_slow_step(fail, 0.1)
    try:
        with caplog.at_level("ERROR", "asyncio"):
            ferrio.run(slow_report())
    finally:
        remove()
    assert "Exception in a callback of ferrio.observe.on_slow_step" in caplog.text and "in the callback" in caplog.text


def program(text, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_environment_switches_it_on_and_the_process_ends_as_ever():
    text = """
        import asyncio, ferrio, sys, time, threading
        async def main():
            time.sleep(0.5)
        ferrio.run(main())
        print([thread.name for thread in threading.enumerate()])
        sys.exit(3)
    """
    ran = program(text, FERRIO_SLOW_STEPS="0.1")
    assert ran.returncode == 3 and ran.stdout == "['MainThread', 'ferrio-watchdog']\n"
    assert "(main) is blocking the loop, for 0." in ran.stderr and "line 4, in main" in ran.stderr
    ran = program(text, FERRIO_SLOW_STEPS="often")
    assert ran.returncode == 3 and ran.stdout == "['MainThread']\n"
    assert "FERRIO_SLOW_STEPS is to be a number of seconds, not 'often'" in ran.stderr


def test_a_parked_watchdog_does_not_keep_the_process_alive():
    ran = program(
        """
        import asyncio, ferrio, threading
        from ferrio import observe
        observe.on_slow_step(print)
        loop = ferrio.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0.2))
        threading.Thread(target=loop.run_forever, daemon=True).start()
        """
    )
    assert ran.returncode == 0 and ran.stderr == ""


def test_a_forked_child_is_watched_by_a_thread_of_its_own():
    ran = program(
        """
        import asyncio, ferrio, os, sys, time, warnings
        from ferrio import observe
        warnings.simplefilter("ignore", DeprecationWarning)
        observe.on_slow_step(lambda slow: slow.finished or print(os.getpid() == parent, flush=True))
        parent = os.getpid()
        async def slow(): time.sleep(0.4)
        ferrio.run(slow())
        child = os.fork()
        if not child:
            ferrio.run(slow())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert ran.stdout == "True\nFalse\n" and ran.returncode == 0, ran.stderr


def test_a_watched_loop_that_sleeps_costs_no_time():
    """The watchdog sleeps as long as the loop does: its thread is not scheduled."""

    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.5)  # it has parked
        thread = next(thread for thread in threading.enumerate() if thread.name == "ferrio-watchdog")
        before = _switches(thread)
        await loop.run_in_executor(None, time.sleep, 1)
        return _switches(thread) - before

    remove = observe.on_slow_step(print, 0.01)
    try:
        assert ferrio.run(main()) < 20  # of 400 ticks
    finally:
        remove()


def _switches(thread):
    with open(f"/proc/self/task/{thread.native_id}/status") as status:
        return sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)
