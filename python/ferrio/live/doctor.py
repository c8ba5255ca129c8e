"""``ferrio doctor PID``: what is wrong with a running process, on one screen, with an exit status for scripts."""

import time

from . import command, findings, words
from .why import complete, heading


def main(arguments):
    parser = command.parser(
        "doctor",
        "What is wrong with a running process. Exit status: 0 nothing, 1 warnings, 2 blocked or broken; 3 if the process "
        "cannot be looked at.",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=10,
        metavar="SECONDS",
        help="how long a task may wait for a lock, a peer or a queue (default: 10)",
    )
    options = parser.parse_args(arguments)
    report = command.answer(parser, options, lambda process: examine(process, options.patience), tell)
    return 3 if report is None else report["status"]


def examine(process, patience=10.0):
    """Looks at all its loops twice, a third of a second apart. Plain data."""
    silent = process.refresh()
    first = {one["slot"]: (one, process.snapshot(one["slot"])) for one in process.loops()}
    begun = time.monotonic()
    if process.is_alive and not process.is_stopped:
        time.sleep(0.3)
        silent = set(silent) & set(process.refresh()) if silent else set(process.refresh())
    seconds = time.monotonic() - begun
    found, loops = [], []
    for one in process.loops():
        if one["state"] == "idle" and process.is_alive:
            continue
        snapshot = process.snapshot(one["slot"])
        if snapshot:
            complete(snapshot, process)
        before, earlier = first.get(one["slot"], (one, None))
        is_silent = one["slot"] in silent or process.is_stopped
        loop = findings.Loop(process, before, one, earlier, snapshot, seconds, is_silent, patience)
        for each in findings.all_of(loop):
            found.append(each | {"loop": one["number"]})
        loops.append(_figures(one, before, snapshot, seconds))
    if not process.is_alive:
        found.insert(
            0,
            findings.finding(
                "gone", findings.BROKEN, "The process is gone, and has not ended in order: it left this page."
            ),
        )
    found.sort(key=lambda each: -each["severity"])
    status = max((each["severity"] for each in found), default=0)
    return {
        "pid": process.pid,
        "alive": process.is_alive,
        "stopped": process.is_stopped,
        "status": status,
        "findings": found,
        "loops": loops,
        "unwatched": process.about["unwatched"],
    }


def _figures(one, before, snapshot, seconds):
    asleep = one["asleep"] - before["asleep"]
    figures = {"number": one["number"], "state": one["state"], "age": snapshot["age"] if snapshot else None}
    figures["has_room"] = one["has_room"]
    if seconds:
        figures["steps"] = round((one["steps"] - before["steps"]) / seconds)
        figures["busy"] = round(min(1.0, max(0.0, 1 - asleep / seconds)), 3)
    if snapshot:
        figures |= {
            "tasks": snapshot["tasks"]["count"],
            "timers": snapshot["timers"]["count"],
            "ready": snapshot["ready"]["count"],
            "descriptors": snapshot["descriptors"]["count"],
        }
    return figures


def tell(process, report):
    """In words, line by line."""
    yield heading(process)
    for one in report["loops"]:
        if "tasks" in one:
            busy = f" · busy {one['busy']:.0%}, {one['steps']:,} steps/s" if "busy" in one else ""
            age = f" · as of {words.seconds(one['age'])} ago" if one["age"] > 1.5 else ""
            yield (
                f"loop {one['number']}: {words.count(one['tasks'], 'task')}, {words.count(one['timers'], 'timer')}, "
                f"{words.count(one['descriptors'], 'descriptor')}, {one['ready']:,} ready{busy}{age}"
            )
        else:
            yield f"loop {one['number']}: {one['state']}; {words.no_snapshot(process, one)}"
    if not report["loops"] and report["alive"]:
        yield "No loop is running."
    if report["unwatched"]:
        yield words.unwatched(report["unwatched"])
    yield ""
    if not report["findings"]:
        yield "Nothing is wrong, as far as that shows."
    for each in report["findings"]:
        sign = "✗" if each["severity"] == findings.BROKEN else "!"
        yield f"{sign} {each['text']}"
        for detail in each["details"]:
            if detail:
                yield f"    {detail}"
