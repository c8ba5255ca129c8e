"""Each incident is named by the doctor, and nothing is found where nothing is wrong."""

import os
import re
import sys
import time
import types

import pytest
from ferrio.live import blocked

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
    ("stalled_consumer", "slow-consumer", 1, "Stalled consumer: 5 tasks"),
    ("stalled_consumer_of_asyncios", "slow-consumer", 1, "Stalled consumer: 5 tasks"),
    ("standstill", "standstill", 1, "all 4 tasks wait"),
    ("dns_stall", "dns-stall", 1, "getaddrinfo"),
    ("signal_storm", "signal-storm", 1, "signals wake the loop"),
]


@pytest.mark.parametrize(("name", "kind", "status", "names"), INCIDENTS, ids=[name for name, *_ in INCIDENTS])
def test_the_doctor_names_it(name, kind, status, names):
    if name == "gil" and "t" in sys.abiflags:
        pytest.skip("there is no interpreter lock to keep")
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


@pytest.mark.parametrize(
    ("name", "kind"), [("lock", "lock"), ("executor_full", "executor-full"), ("dns_stall", "dns-stall")]
)
def test_a_look_at_a_loop_that_sleeps_knows_for_how_long_it_has(name, kind):
    # Nothing happens in it any more, so it has not looked at itself either.
    with running(name) as process:
        time.sleep(3)
        assert kind in kinds(examine(process.pid, patience=2))
        # Which has woken it, and is no step.
        assert kind in kinds(examine(process.pid, patience=2))


def test_the_line_of_a_blocked_loop_is_the_programs_own():
    library = ["/usr/lib/python3.14/subprocess.py", 2004, "_try_wait"]
    package = ["/srv/.venv/lib/python3.14/site-packages/requests/api.py", 59, "request"]
    machinery = ["/srv/.venv/lib/python3.14/site-packages/ferrio/runners.py", 28, "run"]
    own = ["/srv/shop/pay.py", 12, "charge"]
    assert blocked.line_of([library, package, own, machinery]) == own
    assert blocked.line_of([library, package, machinery]) == library
    assert blocked.line_of([]) is None


def test_tasks_that_wait_in_a_circle_for_each_others_locks():
    with running("deadlock") as process:

        def deadlocks():
            found = examine(process.pid)["findings"]
            return found if len(found) == 3 else None

        found = until(deadlocks)
    assert found, "not found"
    texts = [finding["text"] for finding in found if finding["kind"] == "deadlock"]
    # Of those who wait, too, but are none of the circle.
    (innocent,) = [finding["text"] for finding in found if finding["kind"] == "lock"]
    assert "innocent() waits for a Lock" in innocent
    (circle,) = [text for text in texts if "in a circle" in text]
    assert re.search(r"Deadlock: Task-\d+ moves\(\) and Task-\d+ moves\(\) wait in a circle", circle)
    (own,) = [text for text in texts if text is not circle]
    assert own.endswith("twice() waits for a lock that it has taken itself.")


def test_the_queue_of_a_stalled_consumer_is_told_of_with_its_producers_and_their_line():
    with running("stalled_consumer") as process:

        def found():
            return [each for each in examine(process.pid)["findings"] if "Stalled consumer" in each["text"]]

        (finding,) = until(found) or [None]
        shown = look("doctor", process.pid, "--patience", 1).stdout
    assert finding
    said = r"5 tasks \(Task-\d+ produces\(\), …\) wait for a Queue with 3 of 3 in it, to put, for "
    assert re.search(said, finding["text"])
    assert finding["text"].endswith("in produces().") and "incidents.py:" in finding["text"]
    (detail,) = finding["details"]
    assert detail.startswith("Nothing has been taken out of it for ")
    assert detail.endswith(" s or longer, and no task waits to get.")
    assert "! Stalled consumer: " in shown


def test_an_exhausted_pool_is_followed_to_what_its_last_holder_waits_for():
    with running("exhausted_pool") as process:

        def found():
            return [each for each in examine(process.pid)["findings"] if "wait for a Semaphore" in each["text"]]

        (finding,) = until(found) or [None]
    assert finding
    assert finding["text"].startswith("7 tasks (") and " in uses()." in finding["text"]
    assert finding["kind"] == "lock"
    # The chain: it is with one that waits for a lock, which is with one that waits for its peer.
    *_, holder, last = finding["details"]
    assert re.search(r"uses\(\) is at .* and waits for a Lock", holder)
    assert re.search(r"asks\(\) is at .* and waits for bytes to read\.", last)


def test_a_consumer_that_takes_is_slow_and_not_stalled():
    with running("busy_consumer") as process:

        def found():
            return any("wait for a Queue" in each["text"] for each in examine(process.pid)["findings"])

        assert until(found), "not found"
        time.sleep(2)
        for _ in range(3):
            texts = [each["text"] for each in examine(process.pid)["findings"]]
            assert texts and all(text.startswith("Slow consumer: ") for text in texts)


@pytest.mark.parametrize(("name", "patience"), [("healthy", 10), ("idle", 1), ("until_told", 1)])
def test_nothing_is_wrong_with_a_healthy_program(name, patience):
    with running(name) as process:
        # What is idle has waited for longer than one may wait for a lock.
        time.sleep(0 if name == "healthy" else 2)
        for _ in range(5):
            report = examine(process.pid, patience)
            assert not report["findings"]
            assert report["status"] == 0


def test_nothing_is_wrong_with_a_main_task_that_waits_for_ever():
    with running("for_ever") as process:
        assert kinds(examine(process.pid)) == set()
        assert "waits for an Event" in look("why", process.pid).stdout


def test_a_loop_that_sleeps_or_is_about_to_answer_is_not_blocked(monkeypatch):
    def found(state, file, within):
        own = {"cpu": 0.0, "queued": 0.0, "switches": 0.0, "state": "S", "in": within}
        monkeypatch.setattr(blocked.proc, "watch", lambda pid: {1: own})
        one = {"slot": 0, "state": state, "steps": 1, "sleeps": 1, "since": time.monotonic(), "looked": 0, "thread": 1}
        stack = {"thread": 1, "is_current": True, "stack": [[file, 75, "take"]]}
        page = types.SimpleNamespace(loops=lambda: [one])
        process = types.SimpleNamespace(
            is_alive=True, is_stopped=False, pid=os.getpid(), page=page, stacks=lambda thread: [stack]
        )
        return blocked.look(process, one, None)

    assert found("asleep", "/srv/app.py", "do_epoll_wait") is None
    assert found("asleep", "/srv/app.py", "futex_wait_queue") is not None
    assert found("running", "/srv/.venv/lib/python3.14/site-packages/ferrio/live/listing.py", None) is None
    assert found("running", "/srv/app.py", "do_epoll_wait") is not None


def test_who_keeps_the_interpreters_lock_is_named_by_the_programs_own_line():
    stack = [["/usr/lib/python3.14/re/__init__.py", 166, "match"], ["/srv/app.py", 3, "scores"]]
    about = {
        "kind": "lock",
        "for": 1,
        "stack": [],
        "keeper": {"name": "scorer", "stack": stack, "cpu": 0.2, "queued": 0.7},
    }
    _, said = blocked.tell(about)
    assert said.strip() == "thread scorer computes: /srv/app.py:3 in scores(), in re/__init__.py:166 in match()"
    # Of a thread that no snapshot knows it is not known what it does.
    _, said = blocked.tell(about | {"keeper": {"name": None, "stack": stack}})
    assert said.strip().startswith("thread does not give it up: ")


def test_nothing_is_wrong_with_a_program_that_sleeps():
    with running("asleep") as process:
        assert kinds(examine(process.pid)) == set()
