"""The record as events of a run, as ``ferrio explain --json`` has them: what the page shows.

Flight knows who ran, when and why, not at which line or on what a task waited; a pause here says that it waits, and a
wake-up what ended it.
"""

from .steps import understand


def events(log):
    """The head, then the events in the order of time."""
    flight = understand(log)
    from .. import __version__

    process = log.process
    begun = min((step.begins for step in flight.steps), default=process["began_monotonic"])
    yield {
        "event": "head",
        "version": 1,
        "program": process["title"],
        "argv": [process["title"]],
        "python": process["runtime"].removeprefix("Python ") or "?",
        "ferrio": __version__,
        "clock": "real",
        "started": process["began"] + begun - process["began_monotonic"],
        "sources": {},
    }
    tasks, names = _numbered(flight)
    moments = []
    for sleep in flight.sleeps:
        moments.append((sleep.begins, _asleep))
        moments.append((sleep.ends, lambda known, sleep=sleep: _awake(sleep)))
    for step in flight.steps:
        if id(step.subject) in tasks:
            if step.ready is not None:
                moments.append((step.ready, lambda known, step=step: _ready(step, known)))
            moments.append((step.begins, lambda known, step=step: _begins(step, known)))
            moments.append((step.ends, lambda known, step=step: _ends(step, known)))
    known = {"tasks": tasks, "names": names, "seen": set()}
    ran = {}
    number = 0
    for at, make in sorted(moments, key=lambda pair: pair[0]):
        for event in make(known):
            number += 1
            yield {"n": number, "t": max(at - begun, 0.0), **event}
    for step in flight.steps:
        if id(step.subject) in tasks:
            task = tasks[id(step.subject)]
            ran[task] = ran.get(task, 0.0) + step.ends - step.begins
    end = max((step.ends for step in flight.steps), default=begun)
    asleep = sum(sleep.ends - sleep.begins for sleep in flight.sleeps)
    python = sum(ran.values())
    yield {
        "n": number + 1,
        "t": end - begun,
        "event": "bill",
        "elapsed": end - begun,
        "ran": {str(task): seconds for task, seconds in ran.items()},
        "python": python,
        "asleep": asleep,
        "one_by_one": end - begun,
        "chains": [],
        "text": f"{end - begun:.3f} s recorded; Python ran {python:.3f} s of them, the loop slept {asleep:.3f} s.",
    }


def _numbered(flight):
    """Tasks by number, and a name for each that no other has."""
    tasks, names, taken = {}, {}, set()
    for subject in flight.subjects:
        if subject.is_task:
            number = tasks[id(subject)] = len(tasks) + 1
            name, count = subject.name, 1
            while name in taken:
                count += 1
                name = f"{subject.name}#{count}"
            taken.add(name)
            names[number] = name
    return tasks, names


def _who(step, known):
    task = known["tasks"][id(step.subject)]
    return {"task": task, "name": known["names"][task]}


def _cause(step, known):
    """What made it ready; what a callback did counts as what made the callback ready."""
    while step.cause == "step" and step.waker is not None and id(step.waker.subject) not in known["tasks"]:
        step = step.waker
    match step.cause:
        case "step" | "cancel":
            if step.waker is None:
                return {"kind": "outside"}
            task = known["tasks"].get(id(step.waker.subject))
            if task is None:
                return {"kind": "outside"}
            return {"kind": "task" if step.cause == "step" else "cancel", "task": task, "step": step.waker.number}
        case "timer":
            return {"kind": "timer", "timer": step.payload}
        case "descriptor":
            fd, writing = divmod(step.payload, 2)
            return {"kind": "socket", "fd": fd, "direction": "write" if writing else "read"}
        case "signal":
            return {"kind": "signal", "number": step.payload}
        case "child":
            return {"kind": "child", "pid": step.payload}
        case "thread":
            return {"kind": "thread"}
    return {"kind": "outside"}


def _words(cause, known):
    match cause["kind"]:
        case "task" | "cancel":
            return known["names"][cause["task"]]
        case "timer":
            return f"timer {cause['timer']}"
        case "socket":
            return f"descriptor {cause['fd']} ({cause['direction']})"
        case "signal":
            return f"signal {cause['number']}"
        case "child":
            return f"the end of child {cause['pid']}"
        case "thread":
            return "another thread"
    return "code outside of the loop"


def _ready(step, known):
    who, cause = _who(step, known), _cause(step, known)
    if who["task"] in known["seen"]:
        text = f"{who['name']} is ready, by {_words(cause, known)}."
        yield {"event": "ready", **who, "because": cause, "text": text}
    else:
        by = {"task": cause["task"]} if cause["kind"] == "task" else {"loop": True}
        yield {"event": "queued", **who, "by": by, "text": f"{who['name']} is queued, by {_words(cause, known)}."}


def _begins(step, known):
    who = _who(step, known)
    first = who["task"] not in known["seen"]
    known["seen"].add(who["task"])
    waited = 0.0 if step.ready is None else step.begins - step.ready
    verb = "starts" if first else "continues"
    text = f"{who['name']} {verb}. It was ready for {waited * 1e6:.0f} µs."
    yield {"event": "start" if first else "resume", **who, "waited": waited, "step": step.number, "text": text}


def _ends(step, known):
    who, ran = _who(step, known), step.ends - step.begins
    waits = {"kind": "future", "on": ""}
    text = f"{who['name']} gives the thread back, after {ran * 1e6:.0f} µs."
    yield {"event": "pause", **who, "ran": ran, "waits": waits, "text": text}


def _asleep(known):
    text = "Nobody is ready: the loop asks the operating system."
    yield {"event": "asleep", "until": None, "watches": [], "text": text}


def _awake(sleep):
    slept = sleep.ends - sleep.begins
    yield {
        "event": "awake",
        "slept": slept,
        "by": [],
        "text": f"The operating system woke the loop after {slept:.6f} s.",
    }
