"""Looking at processes in every condition: asleep, stopped, killed, huge, forked, somebody else's."""

import asyncio
import concurrent.futures
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import stat
import struct
import subprocess
import sys
import termios
import time
import types
from pathlib import Path

import ferrio
import ferrio._ferrio as native
import pytest
from ferrio.live import snapshot, tasks
from ferrio.live.attach import Process
from ferrio.live.screen import _quantile, _tasks
from ferrio.live.why import tell

from .helpers import OURS, examine, kinds, look, running, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes leave pages on Linux alone")


def test_why_says_who_could_end_it():
    with running("waiting") as process:
        said = look("why", process.pid).stdout
    assert "who could end it: A timer, " in said
    assert "its peer, by sending something or closing." in said
    assert "which is inside of it, by leaving it." in said
    assert "Whoever puts something in." in said
    assert re.search(r"who could end it: Task-\d+ listens\(\), Task-\d+ gets\(\), .*, by ending\.", said)
    assert "incidents.py:" in said


def test_why_of_one_task():
    with running("lost_future") as process:
        answer = json.loads(look("why", process.pid, "waits", "--json").stdout)
        (task,) = answer["loops"][0]["tasks"]
        assert task["state"] == "nobody"
        assert "NOBODY" in look("why", process.pid, task["name"]).stdout
        missing = look("why", process.pid, "nonsense")
    assert missing.returncode == 1
    assert "has no task 'nonsense'" in missing.stderr


def test_top_lists_and_shows():
    with running("healthy") as process:
        (listed,) = [one for one in json.loads(look("top", "--json").stdout) if one["pid"] == process.pid]
        assert listed["loops"] == 1
        assert str(process.pid) in look("top", "--once").stdout
        shown = look("top", process.pid, "--once").stdout
        assert "steps/s" in shown
        assert "echo()" in shown
        # By name as well.
        assert (
            shown.splitlines()[0].split(" · ")[:1]
            == look("top", f"healthy {OURS}", "--once").stdout.splitlines()[0].split(" · ")[:1]
        )


def test_of_a_loop_that_has_never_been_looked_at_the_list_does_not_know_the_tasks():
    # A second after it began, it would tell without being asked.
    with running("stopped_at_once") as process:
        (listed,) = [one for one in json.loads(look("top", "--json").stdout) if one["pid"] == process.pid]
        assert listed["tasks"] is None
        assert "?" in next(line for line in look("top").stdout.splitlines() if str(process.pid) in line)
        process.send_signal(signal.SIGCONT)
        look("why", process.pid)
        (listed,) = [one for one in json.loads(look("top", "--json").stdout) if one["pid"] == process.pid]
        assert listed["tasks"] == 1


def test_half_of_the_timers_are_no_later_than_the_latest():
    assert _quantile({"buckets": [[0.00419, 1]], "longest": 0.00397}, 0.5) == 0.00397


def test_a_sleeping_loop_answers_at_once():
    with running("asleep") as process:
        time.sleep(0.2)
        seen = Process(process.pid)
        assert seen.refresh(patience=5) == []
        (one,) = [one for one in seen.loops() if one["state"] != "idle"]
        snapshot = seen.snapshot(one["slot"])
        assert snapshot["asked"]
        assert [task["state"] for task in snapshot["tasks"]["described"]] == ["timer"]


def test_stacks_of_all_threads():
    with running("executor_full") as process:
        seen = Process(process.pid)
        (one,) = [one for one in seen.loops() if one["state"] != "idle"]
        stacks = seen.stacks(one["thread"])
        assert stacks[0]["is_current"]
        assert any(line[2] == "<module>" for line in stacks[0]["stack"])
        assert len(stacks) > 1


def test_a_stopped_process():
    with running("healthy") as process:
        assert until(lambda: Process(process.pid).page.snapshot(0))
        process.send_signal(signal.SIGSTOP)
        assert until(lambda: Process(process.pid).is_stopped)
        report = examine(process.pid)
        assert kinds(report) >= {"stopped"}
        assert report["status"] == 2
        # Since when, nobody knows.
        assert "STOPPED: the process does not run" in look("doctor", process.pid).stdout
        assert "STOPPED" in look("why", process.pid).stdout
        assert "DOES NOT ANSWER" in look("top", process.pid, "--once").stdout
        # Nobody has sent it anything that would end it now.
        process.send_signal(signal.SIGCONT)
        assert until(lambda: Process(process.pid).refresh(1) == [])


def test_a_killed_process():
    with running("healthy") as process:
        assert until(lambda: Process(process.pid).page.snapshot(0))
        process.kill()
        process.wait()
        report = examine(process.pid)
        assert report["status"] == 2
        assert "gone" in kinds(report)
        said = look("why", process.pid).stdout
        assert "the process is gone; last seen" in said
        assert "echo()" in said
        assert "GONE" in look("top", process.pid, "--once").stdout
        assert look("level", process.pid, "flight").returncode == 1


def test_a_process_that_has_hung_since_its_first_second_and_is_killed_says_where():
    with running("for_ever") as process:
        assert until(lambda: Process(process.pid).page.snapshot(0))
        process.kill()
        process.wait()
        said = look("why", process.pid).stdout
        assert "the process is gone; last seen" in said
        assert re.search(r"incidents\.py:\d+ in for_ever\(\)", said), said


def test_a_hundred_thousand_tasks():
    with running("many") as process:
        assert Process(process.pid).refresh(patience=20) == []
        before = memory(process.pid)
        for _ in range(5):
            assert Process(process.pid).refresh(patience=20) == []
        seen = Process(process.pid)
        _, _, text = seen.page.snapshot(0)
        snapshot = seen.snapshot(0)
        assert len(text) <= 512 * 1024
        assert snapshot["tasks"]["count"] == 100_001
        assert len(snapshot["tasks"]["described"]) <= 400
        (most, *_) = snapshot["tasks"]["groups"]
        assert most["state"] == "timer"
        assert most["line"][1]
        assert memory(process.pid) - before < 20 << 20


def test_of_more_tasks_than_are_counted_it_is_said_how_many_there_are_besides(monkeypatch):
    monkeypatch.setattr(tasks, "ASKED", (40, 200))

    async def program():
        sleeping = [asyncio.create_task(asyncio.sleep(100)) for _ in range(1000)]
        await asyncio.sleep(0)
        taken = snapshot.take(asyncio.get_running_loop(), snapshot.Memory())
        for task in sleeping:
            task.cancel()
        await asyncio.gather(*sleeping, return_exceptions=True)
        return taken

    taken = asyncio.Runner(loop_factory=ferrio.new_event_loop).run(program())
    assert "  and 801 more tasks that were not looked at" in _tasks(taken, 80)
    told = {"number": 0, "blocked": None, "age": 0.0, "answered": True, "tasks": taken["tasks"]["described"]}
    process = types.SimpleNamespace(pid=1, title="", runtime="", is_alive=True, is_stopped=False)
    told |= {name: taken["tasks"][name] for name in ("count", "counted", "groups")}
    said = list(tell(process, {"loops": [told], "unwatched": 0}))
    assert said[-1] == "  and 801 more tasks that were not looked at"


def memory(pid):
    """Bytes of memory that are its own."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such line")


MANY_LOOPS = """
import resource
import sys

import ferrio

# Each loop has two descriptors.
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
wanted = 3 * int(sys.argv[1]) + 100
resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, hard)), hard))
loops = [ferrio.new_event_loop() for _ in range(int(sys.argv[1]))]


async def once():
    pass


for loop in loops[:-1]:
    loop.run_until_complete(once())


async def main():
    print("ready", flush=True)
    while line := sys.stdin.readline().strip():
        while len(loops) > int(line) and loops[0] is not running:
            loops.pop(0).close()
        print("ready", flush=True)


# The one that was made last, while others go away.
running = loops[-1]
running.run_until_complete(main())
"""


@contextlib.contextmanager
def many_loops(count):
    """A process with so many loops, and what has all but so many go, oldest first."""
    command = [sys.executable, "-c", MANY_LOOPS, str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def leave(loops):
            process.stdin.write(f"{loops}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "ready\n"

        try:
            assert process.stdout.readline() == "ready\n"
            yield process, leave
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            (Path(native.page_folder()) / f"{process.pid}.loop").unlink(missing_ok=True)


def test_forty_loops_are_watched():
    with many_loops(40) as (process, _):
        seen = Process(process.pid)
        loops = seen.loops()
        assert sorted(one["number"] for one in loops) == list(range(40))
        assert {one["number"] for one in loops if one["steps"]} == set(range(40))
        (last,) = [one for one in loops if one["state"] == "running"]
        assert last["number"] == 39 and not last["has_room"]
        shown = look("top", process.pid, "--once").stdout
    assert "loop 39 running" in shown and "no snapshot: the page has no room for this loop's" in shown
    assert "not watched" not in shown


def test_loops_that_find_no_place_are_counted():
    with many_loops(258) as (process, leave):
        # (`why` and `doctor` find the loop blocked, which is not watched itself.)
        for words in (["why", process.pid], ["doctor", process.pid], ["top", process.pid, "--once"]):
            assert "3 more loops are not watched" in look(*words).stdout
        (listed,) = [one for one in json.loads(look("top", "--json").stdout) if one["pid"] == process.pid]
        assert listed["unwatched"] == 3
        # The places of loops that go are the next ones'; those that have none go on without.
        leave(100)
        seen = Process(process.pid)
        assert (len(seen.loops()), seen.about["unwatched"]) == (97, 3)


def test_the_page_of_two_loops_is_small():
    with many_loops(2) as (process, _):
        status = os.stat(Path(native.page_folder()) / f"{process.pid}.loop")
        # Blocks of 512 bytes: what is not used has no memory.
        assert status.st_size > 16 * 1024 * 1024 and status.st_blocks * 512 <= 64 * 1024


def test_readers_at_the_same_time():
    with running("healthy") as process, concurrent.futures.ThreadPoolExecutor(6) as readers:
        answers = list(
            readers.map(lambda word: look(word, process.pid, "--json"), ["why", "doctor", "why", "doctor"] * 3)
        )
        for answer in answers:
            assert json.loads(answer.stdout)["pid"] == process.pid


def test_the_files_are_their_users_alone():
    with running("asleep") as process:
        for suffix in (".loop", ".stacks"):
            known = (Path(native.page_folder()) / f"{process.pid}{suffix}").stat()
            assert stat.S_IMODE(known.st_mode) == 0o600
            assert known.st_uid == os.geteuid()


def test_levels():
    with running("healthy") as process:
        assert "before: pulse" in look("level", process.pid, "flight").stdout
        seen = Process(process.pid)
        assert until(lambda: seen.page.records())
        assert "woken by:" in look("top", process.pid, "--once").stdout
        done = look("level", process.pid, "pulse", "--for", "0.1")
        assert "flight again" in done.stdout
        assert Process(process.pid).about["level"] == "flight"


@pytest.mark.parametrize("command", ["why", "doctor", "top", "level"])
def test_processes_that_cannot_be_looked_at(command):
    more = ["pulse"] if command == "level" else []
    for pid, why in [("999999999", "there is no process"), ("nonsense-nonsense", "has 'nonsense-nonsense' in its")]:
        done = look(command, pid, *more)
        assert done.returncode in {1, 3}
        assert why in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_process_without_a_loop():
    done = look("why", os.getppid() if os.getppid() > 1 else 1)
    assert done.returncode == 1
    assert done.stderr.startswith("ferrio why: process")


def test_of_a_process_that_only_starts_others_it_is_said_which_have_a_loop():
    # As `uvicorn --workers 2` does.
    start = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    with running("asleep", prefix=[sys.executable, "-c", start]) as process:
        said = look("why", process.pid)
        child = re.search(r"of its children do (\d+)$", said.stderr)
        assert said.returncode == 1 and child, said.stderr
        assert "asleep()" in look("why", child[1]).stdout
        os.kill(int(child[1]), signal.SIGKILL)


def test_a_page_of_another_version():
    pid = 4_000_001
    path = Path(native.page_folder()) / f"{pid}.loop"
    path.write_bytes(b"ferrio\r\n" + bytes([255] * 8) + bytes(30_000_000))
    try:
        done = look("doctor", pid)
    finally:
        path.unlink()
    assert done.returncode == 3
    assert re.search(
        r"another ferrio than this one .*: it left a page of version 4294967295; this ferrio reads", done.stderr
    )
    assert done.stderr.count("\n") == 1


def test_a_forked_child_offers_its_own_stacks():
    with running("forked") as process:
        child = int(process.stdout.readline())
        try:
            seen = Process(child)
            (one,) = [one for one in seen.loops() if one["state"] != "idle"]
            stacks = seen.stacks(one["thread"])
            assert any(line[2] == "in_the_child" for line in stacks[0]["stack"]) or stacks[0]["is_current"]
            assert seen.refresh(5) == []
        finally:
            os.kill(child, signal.SIGKILL)


def test_top_on_a_terminal_of_eighty_by_twenty_four():
    with running("healthy") as process:
        screens = on_a_terminal(["top", process.pid, "--every", "0.2"], keys="sie?tq")
    assert len(screens) >= 6
    for screen in screens:
        lines = screen.splitlines()
        assert len(lines) <= 24
        assert all(len(line) <= 80 for line in lines), lines
    text = "".join(screens)
    for shown in ("COROUTINE, AND THE LINE", "WATCHED", "READY", "executor", "[q]uit", "`ferrio why PID`"):
        assert shown in text


def on_a_terminal(words, keys):
    """What a command shows on a terminal on which these keys are pressed, screen by screen. It has to end by itself."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "ferrio", *map(str, words)]
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    shown = b""
    with subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment) as process:
        os.close(child)
        for key in keys:
            # The next key once the screen for the last one is there.
            screens = shown.count(b"\x1b[J")
            while shown.count(b"\x1b[J") <= screens + 1:
                shown += os.read(parent, 65536)
            os.write(parent, key.encode())
        with contextlib.suppress(OSError):
            while block := os.read(parent, 65536):
                shown += block
        assert process.wait(20) == 0
    os.close(parent)
    assert shown.endswith(b"\x1b[?25h\x1b[?1049l")
    return [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.decode()) for screen in shown.split(b"\x1b[H")[1:]]
