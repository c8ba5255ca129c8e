"""``ferrio why PID [TASK|all]``: what each task waits for, since when, at which line, and who could end that."""

import time

from ..explain.waits import leaves
from . import blocked, command, sources, words
from .attach import NotThere

#: Tasks that are told of one by one unless one is asked for.
_MOST = 30


def main(arguments):
    parser = command.parser("why", "What the tasks of a running process wait for, and who could end that.")
    parser.add_argument(
        "task", nargs="?", default="all", help="a task's name, number or coroutine, or 'all' (the default)"
    )
    options = parser.parse_args(arguments)
    found = command.answer(
        parser,
        options,
        lambda process: ask(process, options.task),
        lambda process, answer: tell(process, answer, options.task),
    )
    return 1 if found is None else 0


def ask(process, wanted="all"):
    """What there is to say, as plain data."""
    silent = process.refresh()
    answer = {"pid": process.pid, "alive": process.is_alive, "stopped": process.is_stopped, "loops": []}
    answer["unwatched"] = process.about["unwatched"]
    for one in process.loops():
        snapshot = process.snapshot(one["slot"])
        if one["state"] == "idle" and process.is_alive and snapshot is None:
            continue
        about = {"number": one["number"], "state": one["state"], "answered": one["slot"] not in silent}
        about["has_room"] = one["has_room"]
        about["blocked"] = blocked.look(process, one, snapshot) if one["slot"] in silent else None
        about["age"] = snapshot["age"] if snapshot else None
        if snapshot:
            complete(snapshot, process)
            about["count"] = snapshot["tasks"]["count"]
            about["counted"] = snapshot["tasks"]["counted"]
            about["groups"] = snapshot["tasks"]["groups"]
            about["tasks"] = [task for task in snapshot["tasks"]["described"] if _is(task, wanted)]
        answer["loops"].append(about)
    if wanted != "all" and not any(one.get("tasks") for one in answer["loops"]):
        raise NotThere(f"process {process.pid} has no task {wanted!r} among those that it describes")
    return answer


def complete(snapshot, process):
    """Adds to its tasks for how long each waits, as seen from the snapshot's moment, and where locks were taken."""
    tasks = snapshot["tasks"]["described"]
    called = {task["name"]: words.task(task) for task in tasks}
    files = {line[0] for task in tasks for line in task["stack"]}
    for task in tasks:
        if "since" in task:
            task["waits"] = round(snapshot["at"] - task["since"] + snapshot["age"], 3)
        for leaf in leaves(task["wait"]):
            if "still_since" in leaf:
                leaf["still"] = round(snapshot["at"] - leaf["still_since"] + snapshot["age"], 3)
            sources.complete(leaf, files, process.about["began"])
            if leaf.get("tasks"):
                leaf["called"] = [called.get(name, name) for name in leaf["tasks"]]


def _is(task, wanted):
    return wanted == "all" or wanted in {
        task["name"],
        task["name"].removeprefix("Task-"),
        task["coro"],
        task["coro"].rpartition(".")[2],
    }


def tell(process, answer, wanted="all"):
    """The same in words, line by line."""
    yield heading(process)
    for one in answer["loops"]:
        yield ""
        if one["blocked"]:
            yield from blocked.tell(one["blocked"])
            yield ""
        if one["age"] is None:
            yield f"Loop {one['number']}: {words.no_snapshot(process, one)}."
            continue
        if one["age"] > 1 and (not one["answered"] or not process.is_alive or process.is_stopped):
            yield f"As of {words.seconds(one['age'])} {'before its end' if not process.is_alive else 'ago'}:"
        tasks = one["tasks"]
        told = tasks if wanted != "all" else tasks[:_MOST]
        for task in told:
            yield from about(task, one["age"])
        if wanted == "all" and one["count"] > len(told):
            yield f"{words.count(one['count'], 'task')} in all; by what they do:"
            for group in one["groups"][:20]:
                at = f" at {words.place(group['line'])}" if group["line"] else ""
                yield f"  {group['count']:7,}  {group['coro']}()  {group['state']}{at}"
            if more := words.uncounted(one):
                yield f"  {more}"
        if not tasks:
            yield "No tasks."
    if answer["unwatched"]:
        yield ""
        yield words.unwatched(answer["unwatched"])


def heading(process):
    state = ""
    if not process.is_alive:
        seen = time.time() - (time.monotonic() - process.last_seen())
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seen))
        state = f" · the process is gone; last seen {when}"
    elif process.is_stopped:
        state = " · STOPPED (SIGSTOP): what follows is as it was then"
    return f"{process.pid} {process.title} · {process.runtime}{state}"


def about(task, age):
    """One task in words."""
    waits = f", for at least {words.seconds(task['waits'])}" if task.get("waits", 0) >= 0.01 else ""
    yield f"{words.task(task)} · {task['state']}{waits}"
    for line in task["stack"]:
        yield f"    {words.place(line)}"
    if task.get("cancelling"):
        yield "    was asked to end (cancelled), and has not ended"
    if task["state"] in {"ready", "running"}:
        yield "    is ready to run." if task["state"] == "ready" else "    is running."
        return
    if task["wait"] is None:
        return
    what, ends = words.wait(task["wait"], age or 0.0)
    yield f"    waits for {what}"
    yield f"    who could end it: {ends}"
    for leaf in leaves(task["wait"]):
        yield from (f"    {line}" for line in words.holder(leaf))
