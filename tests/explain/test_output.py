"""How ``ferrio explain`` writes a story: what goes where, on a terminal and elsewhere, and that it is never too long."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from .conftest import SIMPLE, events_of, explain


def test_arguments_and_output_reach_their_places(program):
    ran = explain("--fast", program(SIMPLE), "a", "-v")
    lines = ran.stdout.splitlines()
    starts = next(index for index, line in enumerate(lines) if "starts at line" in line)
    assert lines[starts + 1].strip() == "│ args ['a', '-v']"
    finished = next(index for index, line in enumerate(lines) if "has finished" in line)
    assert lines[finished - 1].strip() == "┃ done"
    assert ran.stderr == ""


def test_in_json_output_is_an_event_in_its_place(program):
    events = events_of("--fast", program(SIMPLE))
    kinds = [event["event"] for event in events]
    first = kinds.index("output")
    assert kinds[first - 1] == "start" and events[first]["name"] == "main"
    assert "".join(event["output"] for event in events if event.get("stream") == "stdout") == "args []\n"
    assert "".join(event["output"] for event in events if event.get("stream") == "stderr") == "done\n"


def test_no_colours_and_no_other_codes_where_there_is_no_terminal(program):
    assert "\x1b" not in explain("--fast", program(SIMPLE)).stdout


@pytest.mark.skipif(os.name != "posix", reason="terminals of this kind are POSIX's")
def test_colours_on_a_terminal_unless_they_are_unwanted(program):
    import pty

    def on_terminal(**environment):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "ferrio", "explain", "--fast", str(program(SIMPLE))]
        environment = {**os.environ, "TERM": "xterm", **environment}
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        said = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:
                break
            if not data:
                break
            said += data
        os.close(ours)
        assert process.wait() == 0
        return said

    assert b"\x1b[" in on_terminal()
    assert b"\x1b[" not in on_terminal(NO_COLOR="1")


class OnTerminal:
    """``ferrio explain`` on a terminal of its own."""

    def __init__(self, *words):
        import pty

        self.said = b""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execv(sys.executable, [sys.executable, "-m", "ferrio", "explain", *map(str, words)])

    def read_until(self, word):
        while word not in self.said:
            ready, _, _ = select.select([self._terminal], [], [], 30)
            assert ready, self.said
            self.said += os.read(self._terminal, 65536)

    def press(self, key):
        os.write(self._terminal, key)

    def wait(self):
        _, status = os.waitpid(self._pid, 0)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.skipif(os.name != "posix", reason="terminals of this kind are POSIX's")
def test_step_waits_for_a_key_and_q_for_none(program):
    story = OnTerminal("--fast", "--step", program(SIMPLE))
    story.read_until(b"has nothing to do yet")
    time.sleep(0.5)
    story.press(b" ")
    story.read_until(b"main")
    assert b"starts" not in story.said
    story.press(b"q")
    story.read_until(b"THE BILL")
    assert story.wait() == 0


@pytest.mark.skipif(os.name != "posix", reason="terminals of this kind are POSIX's")
def test_step_lets_ctrl_c_through(program):
    path = program("""
        import asyncio

        async def main():
            try:
                await asyncio.sleep(60)
            finally:
                print("cleaning up")

        asyncio.run(main())
    """)
    story = OnTerminal("--step", path)
    for word in (b"has nothing to do yet", b"is made a task", b"starts at"):
        story.read_until(word)
        time.sleep(0.5)
        story.press(b" ")
    story.read_until(b"gives the")
    time.sleep(0.5)
    story.press(b"\x03")
    story.read_until(b"KeyboardInterrupt")
    # Nobody is asked to press a key from there on.
    assert story.wait() == -signal.SIGINT
    assert b"cleaning up" in story.said and b"ended by Ctrl-C" in story.said


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_whoever_reads_it_may_have_had_enough(program, options):
    path = program("""
        import asyncio, pathlib

        async def main():
            for _ in range(50):
                await asyncio.sleep(0.001)
                print("on")
            pathlib.Path("ended").touch()

        asyncio.run(main())
    """)
    command = [sys.executable, "-m", "ferrio", "explain", *options, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=path.parent) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0 and (path.parent / "ended").exists()


def test_lines_fit_and_numbers_keep_their_units(program):
    path = program("""
        import asyncio

        async def a_task_with_a_rather_long_name(number):
            await asyncio.sleep(0.25 * number)

        async def main():
            await asyncio.gather(*map(a_task_with_a_rather_long_name, range(1, 8)))

        asyncio.run(main())
    """)
    lines = explain(path, COLUMNS="80").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if re.match(r"\W*(s|ms|µs)\b", line)]


def test_one_event_is_not_left_out_but_told(program):
    path = program("""
        import asyncio

        async def ticks():
            while True:
                await asyncio.sleep(1)

        async def main():
            task = asyncio.create_task(ticks())
            await asyncio.sleep(3.5)
            task.cancel()

        asyncio.run(main())
    """)
    story = explain("--fast", path).stdout
    assert "wakes after 500 ms: timer 1 is due" in story and "more like these" not in story


def test_ten_thousand_events_are_folded(program):
    path = program("""
        import asyncio

        async def ping(mine, other, count):
            for _ in range(count):
                await mine.get()
                other.put_nowait(None)

        async def main():
            a, b = asyncio.Queue(), asyncio.Queue()
            a.put_nowait(None)
            await asyncio.gather(ping(a, b, 2000), ping(b, a, 2000))

        asyncio.run(main())
    """)
    assert len(events_of("--fast", path)) > 10_000
    story = explain("--fast", path).stdout.splitlines()
    assert len(story) < 100
    folded = [
        int(re.search(r"… ([\d,]+) more", line)[1].replace(",", "")) for line in story if " more like these" in line
    ]
    assert sum(folded) > 9_900


def test_repetition_without_a_pattern_is_bounded_too(program):
    path = program("""
        import asyncio, random

        async def work(name):
            for _ in range(400):
                await asyncio.sleep(random.random())

        async def main():
            await asyncio.gather(*[work(name) for name in range(5)])

        asyncio.run(main())
    """)
    assert len(explain("--fast", path).stdout.splitlines()) < 500


def test_what_the_program_prints_is_never_folded(program):
    path = program("""
        import asyncio

        async def main():
            for number in range(300):
                print("number", number)
                await asyncio.sleep(1)

        asyncio.run(main())
    """)
    story = explain("--fast", path).stdout
    assert [int(number) for number in re.findall(r"│ number (\d+)", story)] == list(range(300))
    assert len(story.splitlines()) < 400


def test_json_lines_are_json_and_nothing_else(program):
    ran = explain("--json", "--fast", program(SIMPLE))
    assert ran.stderr == "" and [json.loads(line) for line in ran.stdout.splitlines()]
