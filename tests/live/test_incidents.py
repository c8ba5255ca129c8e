"""Each incident is named by the doctor, and nothing is found where nothing is wrong."""

import sys

import pytest

from .helpers import examine, kinds, look, running, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes leave pages on Linux alone")

#: The incident, what the doctor calls it, its exit status, and what it names.
INCIDENTS = [
    ("blocking_call", "blocking-call", 2, "in blocking_call()"),
    ("cpu_loop", "cpu-loop", 2, "in count_for_ever()"),
    ("gil", "gil", 2, "in keep_the_lock()"),
    ("lock", "lock", 1, "taker takes(), which has finished without releasing it"),
    ("lost_future", "lost-future", 1, "in waits()"),
    ("stuck_peer", "stuck-peer", 1, "127.0.0.1:"),
    ("executor_full", "executor-full", 1, "sleep"),
    ("timer_storm", "timer-storm", 1, "again"),
    ("task_leak", "task-leak", 1, "leaks()"),
    ("slow_consumer", "slow-consumer", 1, "a queue has grown"),
    ("dns_stall", "dns-stall", 1, "getaddrinfo"),
    ("signal_storm", "signal-storm", 1, "signals wake the loop"),
]


@pytest.mark.parametrize(("name", "kind", "status", "names"), INCIDENTS, ids=[name for name, *_ in INCIDENTS])
def test_the_doctor_names_it(name, kind, status, names):
    with running(name) as process:

        def found():
            report = examine(process.pid)
            matching = [finding for finding in report["findings"] if finding["kind"] == kind]
            return (report, matching[0]) if matching else None

        known = until(found)
        assert known, f"not found; {look('doctor', process.pid).stdout}"
        report, finding = known
        assert names in " ".join([finding["text"], *finding["details"]])
        assert report["status"] == status, report["findings"]


def test_tasks_that_wait_in_a_circle_for_each_others_locks():
    with running("deadlock") as process:

        def deadlocks():
            found = examine(process.pid)["findings"]
            texts = [finding["text"] for finding in found if finding["kind"] == "deadlock"]
            return texts if len(texts) == 2 else None

        texts = until(deadlocks)
    assert texts, "not found"
    (circle,) = [text for text in texts if "in a circle" in text]
    assert circle.count("moves()") == 2
    (own,) = [text for text in texts if text is not circle]
    assert own.endswith("twice() waits for a lock that it has taken itself.")


def test_nothing_is_wrong_with_a_healthy_program():
    with running("healthy") as process:
        for _ in range(5):
            report = examine(process.pid, patience=10)
            assert not report["findings"]
            assert report["status"] == 0


def test_nothing_is_wrong_with_a_program_that_sleeps():
    with running("asleep") as process:
        assert kinds(examine(process.pid)) == set()
