"""Steps that hold their loop up are told of while they do."""

import asyncio
import logging
import re
import sys
import threading
import time

import ferrio
import pytest
from ferrio import observe

from .support import program

WATCHER = "ferrio-slow-steps"

#: Without the interpreter lock a task that runs cannot be asked what it is called.
SAYS_ITS_NAME = getattr(sys, "_is_gil_enabled", lambda: True)()


def watchers():
    return [thread for thread in threading.enumerate() if thread.name == WATCHER]


class Listener:
    """Takes down slow steps, and lets whoever blocks go on once there is one."""

    def __init__(self):
        self.steps = []
        self.told = threading.Event()
        self.over = threading.Event()

    def __call__(self, step):
        self.steps.append(step)
        (self.over if step.is_over else self.told).set()


def block(listener):
    # It returns when the report is there: it must have been made while this was running.
    assert listener.told.wait(30)


def test_a_slow_step_is_told_of_while_it_lasts_and_when_it_is_over():
    async def main():
        block(listener)
        await asyncio.sleep(0)

    listener = Listener()
    with observe.on_slow_step(listener, threshold=0.05), asyncio.Runner(loop_factory=ferrio.new_event_loop) as runner:
        task = runner.get_loop().create_task(main(), name="the culprit")
        runner.get_loop().run_until_complete(task)
        assert listener.over.wait(30)
        begun, over = listener.steps
        assert (begun.is_over, over.is_over) == (False, True)
        assert begun.loop is runner.get_loop()
        assert begun.task is over.task is task
        assert over.name == f"task 'the culprit' ({main.__qualname__})"
        assert begun.name == (over.name if SAYS_ITS_NAME else f"a task ({main.__qualname__})")
        assert 0.05 <= begun.seconds <= over.seconds
        # From the coroutine on, not who runs the loop; and down to what blocks.
        names = [frame.name for frame in begun.stack]
        assert names[:2] == ["main", "block"] and names[-1] == "wait"
        assert begun.number == over.number
    assert not watchers()


def test_a_callback_that_is_no_tasks_is_told_of_too():
    def callback():
        block(listener)
        loop.stop()

    listener = Listener()
    loop = ferrio.new_event_loop()
    with observe.on_slow_step(listener, threshold=0.05):
        loop.call_soon(callback)
        loop.run_forever()
        assert listener.over.wait(30)
    loop.close()
    assert listener.steps[0].task is None and listener.steps[0].name == "a callback"
    assert "callback" in [frame.name for frame in listener.steps[0].stack]


def test_sleeping_and_many_short_steps_are_not_slow():
    async def main():
        await asyncio.sleep(0.6)
        begun = time.monotonic()
        while time.monotonic() < begun + 0.6:
            await asyncio.sleep(0)

    listener = Listener()
    with observe.on_slow_step(listener, threshold=0.5):
        ferrio.run(main())
    assert listener.steps == []


def test_who_wants_long_ones_only_is_told_later():
    async def main():
        block(long)

    short, long = Listener(), Listener()
    with observe.on_slow_step(short, threshold=0.02), observe.on_slow_step(long, threshold=0.2):
        ferrio.run(main())
        assert short.over.wait(30) and long.over.wait(30)
    assert short.steps[0].seconds < 0.2 <= long.steps[0].seconds
    assert short.steps[0].number == long.steps[0].number


def test_a_failing_callback_is_logged_and_the_others_are_told(caplog):
    async def main():
        block(listener)

    listener = Listener()
    with observe.on_slow_step(lambda step: 1 / 0, threshold=0.02), observe.on_slow_step(listener, threshold=0.02):
        ferrio.run(main())
        assert listener.over.wait(30)
    failed = [record for record in caplog.records if "on_slow_step" in record.message]
    assert failed and failed[0].exc_info[0] is ZeroDivisionError


def test_a_loop_that_blocks_in_another_thread_is_told_of():
    async def main():
        block(listener)

    listener = Listener()
    with observe.on_slow_step(listener, threshold=0.02):
        thread = threading.Thread(target=ferrio.run, args=(main(),))
        thread.start()
        thread.join()
        assert listener.over.wait(30)
    assert [frame.name for frame in listener.steps[0].stack][:1] == ["main"]


@pytest.mark.parametrize("threshold", [0, -1, float("inf"), float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(ValueError, match="positive"):
        observe.on_slow_step(print, threshold=threshold)
    assert not watchers()


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="callable"):
        observe.on_slow_step(None)


# --- loop.slow_callback_duration -----------------------------------------------------------------------------------------


class Records(logging.Handler):
    """Takes down what the asyncio logger says."""

    def __init__(self):
        super().__init__()
        self.texts = []
        self.first, self.second = threading.Event(), threading.Event()

    def emit(self, record):
        self.texts.append(record.getMessage())
        (self.second if self.first.is_set() else self.first).set()


@pytest.fixture
def log():
    records = Records()
    logger = logging.getLogger("asyncio")
    logger.addHandler(records)
    yield records
    logger.removeHandler(records)


def test_a_loop_whose_program_sets_slow_callback_duration_logs_the_stack(log):
    async def main():
        asyncio.get_running_loop().slow_callback_duration = 0.05
        asyncio.current_task().set_name("the culprit")
        await asyncio.sleep(0.01)
        assert log.first.wait(30)

    ferrio.run(main())
    assert log.second.wait(30)
    assert log.texts[0].startswith("Executing task 'the culprit' (" if SAYS_ITS_NAME else "Executing a task (")
    assert ", and still does:\n" in log.texts[0]
    assert "assert log.first.wait(30)" in log.texts[0]
    assert log.texts[1].startswith("Executing task 'the culprit' (") and " took " in log.texts[1]


def test_nobody_who_has_not_set_it_has_a_thread():
    async def main():
        assert asyncio.get_running_loop().slow_callback_duration == 0.1
        assert not watchers()

    ferrio.run(main())


def test_debug_mode_has_asyncios_message_alone(log):
    async def main():
        asyncio.get_running_loop().slow_callback_duration = 0.05
        await asyncio.sleep(0)
        time.sleep(0.2)
        await asyncio.sleep(0)

    ferrio.run(main(), debug=True)
    slow = [text for text in log.texts if text.startswith("Executing")]
    assert len(slow) == 1 and slow[0].startswith("Executing <Task")


def test_no_number_ends_the_reports():
    loop = ferrio.new_event_loop()
    loop.slow_callback_duration = 0.5
    assert watchers()
    loop.slow_callback_duration = float("inf")
    assert not watchers()
    loop.slow_callback_duration = 0.5
    loop.slow_callback_duration = None
    assert loop.slow_callback_duration is None
    assert not watchers()
    loop.slow_callback_duration = 0.5
    loop.close()
    assert not watchers()


# --- the process ----------------------------------------------------------------------------------------------------------

BLOCK = """
    import asyncio, ferrio, os, sys, time, threading, warnings
    async def main():
        await asyncio.sleep(0)
        time.sleep(0.4)
"""


def test_the_environment_turns_it_on_for_every_loop():
    _, errors = program(BLOCK + "\n    ferrio.run(main())", FERRIO_SLOW_STEPS="0.05")
    name = r"task 'Task-\d+'" if SAYS_ITS_NAME else "a task"
    assert re.match(rf"Executing {name} \(main\) has taken \d\.\d+ seconds, and still does:\n.*line 5, in main", errors)
    assert re.search(r"\nExecuting task 'Task-\d+' \(main\) took 0.\d+ seconds\n$", errors)


def test_nonsense_in_the_environment_is_refused():
    _, errors = program("import ferrio; ferrio.new_event_loop()", status=1, FERRIO_SLOW_STEPS="soon")
    assert "ValueError: FERRIO_SLOW_STEPS must be a number of seconds, got 'soon'" in errors


def test_the_thread_does_not_keep_the_process_alive_and_a_fork_does_not_warn():
    # (DeprecationWarning is an error here: CPython warns of forks with threads from 3.12 on.)
    output, errors = program(
        BLOCK
        + """
    loop = ferrio.new_event_loop()
    loop.slow_callback_duration = 0.05
    loop.run_until_complete(main())
    child = os.fork()
    ferrio.run(main()) if child else loop.run_until_complete(main())
    names = [thread.name for thread in threading.enumerate()]
    line = f"{'parent' if child else 'child'} {names.count('ferrio-slow-steps')}\\n"
    os.write(1, line.encode())  # in one piece
    if child:
        assert os.waitpid(child, 0)[1] == 0
    """
    )
    assert sorted(output.split("\n")) == ["", "child 1", "parent 1"]
    # Before the fork, and in the child's inherited loop; the parent's new loop has not set it.
    assert errors.count("and still does") == 2


def test_exit_while_a_loop_blocks_in_a_thread():
    program(
        """
    import asyncio, ferrio, threading, time
    from ferrio import observe
    told = threading.Event()
    async def main():
        await asyncio.sleep(0)
        time.sleep(60)
    observe.on_slow_step(lambda step: told.set(), threshold=0.02)
    threading.Thread(target=ferrio.run, args=(main(),), daemon=True).start()
    assert told.wait(30)
    """
    )


def test_a_step_in_pure_python_is_seen_although_it_never_sleeps():
    async def main():
        while not listener.told.is_set():
            pass

    listener = Listener()
    with observe.on_slow_step(listener, threshold=0.02):
        ferrio.run(main())
        assert listener.over.wait(30)
    assert listener.steps[0].stack[0].name == "main"
