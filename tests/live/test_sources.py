"""Where a task has taken a lock with ``acquire()``, as far as its program's source tells."""

import os
import time

import pytest
from ferrio.live import sources, words

from .helpers import look, running, until

PROGRAM = """
class Store:
    async def fill(self):
        await self.lock.acquire()
        try:
            await (
                self.other.
                acquire()
            )
            await self.pour()
        finally:
            self.lock.release()

    async def drain(self):
        def inner():
            semaphore.acquire()
        while True:
            await asyncio.sleep(1)
            await self.lock.acquire()
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


def acquires(path, function, line, began=None):
    wait = {"kind": "lock", "held": "acquired", "at": [[path, line, function]]}
    sources.complete(wait, (), time.time() if began is None else began)
    return [call[1] for call in wait["acquires"]]


def test_calls_before_the_line_at_which_the_holder_is(program):
    assert acquires(program, "Store.fill", 10) == [4, 8]
    # It is about to take the second.
    assert acquires(program, "Store.fill", 6) == [4]


def test_a_call_after_that_line_has_been_come_to_by_a_loop(program):
    assert acquires(program, "Store.drain", 18) == [19]


def test_functions_within_are_others(program):
    assert acquires(program, "Store.drain.<locals>.inner", 17) == [16]


def test_nothing_is_said_where_nothing_stands(program, tmp_path):
    assert acquires(program, "Store.spill", 3) == []
    assert acquires(str(tmp_path / "missing.py"), "Store.fill", 10) == []
    broken = tmp_path / "broken.py"
    broken.write_text("def (")
    assert acquires(str(broken), "Store.fill", 10) == []


def test_a_source_that_has_changed_since_the_program_began_is_not_believed(program):
    began = time.time()
    os.utime(program, (began + 5, began + 5))
    assert acquires(program, "Store.fill", 10, began) == []


def test_the_function_of_a_task_that_is_gone_is_looked_for_in_the_files_of_the_others(program):
    wait = {"kind": "lock", "held": "finished", "coro": "Store.fill"}
    sources.complete(wait, {program}, time.time())
    assert wait["acquires"] == [[program, 4, "Store.fill"], [program, 8, "Store.fill"]]


def test_of_few_calls_all_are_told_if_the_task_s_own_function_has_none(tmp_path):
    path = tmp_path / "helper.py"
    path.write_text("async def checkout(lock):\n    await lock.acquire()\n")
    wait = {"kind": "lock", "held": "finished", "coro": "job"}
    sources.complete(wait, {str(path)}, time.time())
    assert wait["acquires"] == [[str(path), 2, "checkout"]]


def test_of_many_calls_none_is_told_if_the_task_s_own_function_has_none(program):
    unknown = {"kind": "lock", "held": "finished", "coro": None}
    sources.complete(unknown, {program}, time.time())
    assert unknown["acquires"] == []


def test_why_and_doctor_tell_it():
    with running("lock") as process:
        line = "acquire() is called at "
        assert until(lambda: line in look("doctor", process.pid, "--patience", 1).stdout)
        said = look("why", process.pid).stdout
        assert "Lock (3 wait)" in said and "taker takes(), which has finished without releasing it" in said
        (place,) = {each.partition(line)[2] for each in said.splitlines() if line in each}
        assert place.endswith("in takes()")


def test_of_a_holder_that_lives_it_is_told_where_it_is():
    wait = {"kind": "lock", "holder": "Task-3", "coro": "main.<locals>.take", "held": "acquired"}
    wait |= {"at": [["program.py", 4, "main.<locals>.take"]], "acquires": [["program.py", 2, "main.<locals>.take"]]}
    assert list(words.holder(wait)) == [
        "Task-3 take() is at program.py:4 in take()",
        "acquire() is called at program.py:2 in take()",
    ]
