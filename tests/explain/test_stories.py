"""Golden stories: on the virtual clock they are exact, and the same on every Python whose asyncio does the same.

`pytest tests/explain --regenerate` writes them anew. Where the asyncio of a Python goes another way, its story has the
version in its name: wait_for-3.11.txt.
"""

import re
import sys
from pathlib import Path

import pytest

from .conftest import PROGRAMS, events_of, explain

STORIES = Path(__file__).parent / "stories"
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


def exact(story):
    """The story without what differs from run to run: ports, numbers of sockets and processes, and how long code blocked."""
    story = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", story)
    numbers = {}
    story = re.sub(
        r"(socket|pipe) (\d+)", lambda found: f"{found[1]} #{numbers.setdefault(found[2], len(numbers) + 1)}", story
    )
    story = re.sub(r"child process \d+", "child process PID", story)
    story = re.sub(r"[\d.]+ m?s(?=\. The loop|( that it ran)? without an await)", "200 ms", story)
    # The child's two pieces of news come in any order, together or not.
    story = re.sub(r"wakes: (?=.*(?:pipe|child process)).* So main", "wakes: NEWS OF THE CHILD. So main", story)
    story = re.sub(r"^ +(pipe #1|child process PID) → main", "            NEWS OF THE CHILD → main", story, flags=re.M)
    # The interpreter's warnings and asyncio's log, in stderr, are theirs.
    return "".join(line for line in story.splitlines(keepends=True) if not line.lstrip().startswith("┃"))


def golden(name):
    own = STORIES / f"{name}-{VERSION}.txt"
    return own if own.exists() else STORIES / f"{name}.txt"


def again(*words):
    """The story once more, alone: a machine that is busy with other things makes a step long, and the story says so."""
    *options, name = words
    return exact(explain(*options, f"{name}.py").stdout)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_has_its_story(name, stories, request):
    story = exact(stories[name])
    if request.config.getoption("--regenerate"):
        golden(name).write_text(story, encoding="utf-8")
    wanted = golden(name).read_text(encoding="utf-8")
    assert (story if story == wanted else again("--fast", name)) == wanted


@pytest.mark.parametrize("name", PROGRAMS)
def test_asyncios_own_primitives_are_told_of_equally_well(name, stories_of_asyncio):
    wanted = golden(name).read_text(encoding="utf-8")
    story = exact(stories_of_asyncio[name])
    assert (story if story == wanted else again("--fast", "--loop-only", name)) == wanted


# What comes in any order, or depends on how fast a child or a thread is.
UNORDERED = {"echo", "child", "to_thread"}


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - UNORDERED))
def test_on_the_real_clock_it_is_the_same_story(name, real, virtual):
    def structure(events):
        return [
            [event.get(key) for key in ("event", "name", "file", "line", "outcome", "value", "kind", "tells", "output")]
            for event in events
            if event["event"] not in {"bill", "asleep", "awake"} and event.get("stream") != "stderr"
        ]

    wanted = structure(virtual[name])
    told = structure(real[name])
    assert (told if told == wanted else structure(events_of(f"{name}.py"))) == wanted


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - UNORDERED))
def test_no_timer_rings_before_its_time(name, real):
    due = {}
    for event in real[name]:
        if event["event"] == "pause":
            waits = event["waits"]
            for wait in waits["of"] if waits["kind"] == "any" else [waits]:
                if wait["kind"] == "timer":
                    due.setdefault(wait["timer"], event["t"] + wait["in"])
        for cause in event["by"] if event["event"] == "awake" else ():
            if cause["kind"] == "timer":
                # (The pause is told a little after the timer was set.)
                assert event["t"] > due.get(cause["timer"], 0) - 0.05 and cause["late"] >= 0
