"""What the documentation shows is what is printed."""

import re

from .conftest import HERE, explain

DOCS = HERE.parent.parent / "docs"
PAGE = DOCS / "what-happens-at-an-await.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)


def test_the_program_is_the_one_that_is_told_of():
    assert blocks("python") == [(HERE / "programs" / "kettles.py").read_text()]


def test_the_story_is_the_real_one_and_nothing_is_left_out():
    story = explain("--fast", "kettles.py", COLUMNS="").stdout
    shown = "".join(blocks("text"))
    _, _, told = story.partition("no time.\n\n")
    assert shown.replace("\n\n", "\n") == told.replace("\n\n", "\n")


def documented():
    """The tables of docs/events.md: (the table's number, the name in the first column) → words in code."""
    rows, table = {}, -1
    for line in (DOCS / "events.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| ---"):
            table += 1
        elif line.startswith("| `"):
            names, _, fields = line[1:-1].split(" | ", 2)
            for name in re.findall(r"`([^`]+)`", names):
                rows[table, name] = set(re.findall(r"`([^`]+)`", fields))
    return rows


def undocumented(event, rows):
    """What there is in an event, or in a wait or a cause of it, that the tables do not have."""
    common = {"n", "t", "event", "text", "task", "name", "file", "line", "code"}
    yield from (f"{event['event']}: {key}" for key in event.keys() - common - rows[0, event["event"]])
    by, because, waits = event.get("by"), event.get("because"), event.get("waits")
    causes = [*(by if isinstance(by, list) else []), *([because] if because else [])]
    for table, all_ in (1, [waits] if waits else []), (2, causes):
        while all_:
            one = all_.pop()
            # A cancellation says the same of itself as the event does.
            own = rows[0, "cancel"] | {"task", "loop"} if one["kind"] == "cancel" else set()
            known = rows[table, one["kind"]] | own
            yield from (f"{one['kind']}: {key}" for key in one.keys() - {"kind"} - known)
            all_ += one["of"] if one["kind"] == "any" else [one["because"]] if "because" in one else []


def test_every_event_and_all_its_fields_are_documented(virtual, real):
    rows = documented()
    events = [event for run in (*virtual.values(), *real.values()) for event in run]
    assert {event["event"] for event in events} == {name for table, name in rows if table == 0}
    assert {what for event in events for what in undocumented(event, rows)} == set()
