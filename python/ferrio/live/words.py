"""Numbers, lines and waits in the words in which people read them."""

import os


def seconds(value):
    """A time: 340 µs, 2.1 ms, 12 s, 3 min 20 s, 2 h 05 min."""
    if value is None:
        return "?"
    if value < 0:
        return "-" + seconds(-value)
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    if value < 60:
        return f"{value:.3g} s"
    if value < 3600:
        return f"{value // 60:.0f} min {value % 60:.0f} s"
    if value < 86400:
        return f"{value // 3600:.0f} h {value % 3600 // 60:02.0f} min"
    return f"{value // 86400:.0f} d {value % 86400 // 3600:02.0f} h"


def number(value):
    """1,204"""
    return f"{value:,}"


def unwatched(loops):
    """What to say of loops that a process's page has no room for."""
    if loops == 1:
        return "1 more loop is not watched: the page has no room for it."
    return f"{loops:,} more loops are not watched: the page has no room for them."


def uncounted(tasks):
    """What to say if not all tasks were looked at; nothing if they were."""
    more = tasks["count"] - tasks["counted"]
    return f"and {count(more, 'more task')} that were not looked at" if more > 0 else ""


def no_snapshot(process, one):
    """Why a loop has left no snapshot."""
    if not one["has_room"]:
        return "no snapshot: the page has no room for this loop's"
    if process.about["missing"] & 2:
        return "no snapshot: there was no room on the tmpfs for it"
    return "no snapshot yet" if process.is_alive else "it has left no snapshot"


def count(value, what, more=None):
    """1 task, 2 tasks"""
    return f"{value:,} {what if value == 1 else more or what + 's'}"


def ordinal(value):
    """1st, 2nd, 3rd, 4th, 11th"""
    return f"{value:,}{'th' if value % 100 in {11, 12, 13} else {1: 'st', 2: 'nd', 3: 'rd'}.get(value % 10, 'th')}"


def size(value):
    if value < 1024:
        return f"{value} B"
    return f"{value / 1024:.0f} KiB" if value < 1 << 20 else f"{value / (1 << 20):.1f} MiB"


def place(line):
    """`app.py:12 in fetch()` for [file, line, function]."""
    if not line:
        return "a place unknown"
    name = line[2].rpartition("<locals>.")[2]
    return f"{short_path(line[0])}:{line[1]}" if name == "<module>" else f"{short_path(line[0])}:{line[1]} in {name}()"


def short_path(path):
    here = os.getcwd() + os.sep
    if path.startswith(here):
        return path[len(here) :]
    parts = path.split(os.sep)
    return os.sep.join(parts[-2:]) if len(parts) > 3 else path


def called(known):
    """`resize (app.py:20)` for [name, file, line] of a function."""
    name, path, line = known
    name = name.rpartition("<locals>.")[2]
    return f"{name} ({short_path(path)}:{line})" if path else name


def a(noun):
    """ "a Lock", "an Event" """
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def task(one, whose="name"):
    """`Task-7 fetch()`"""
    coro = (one.get("coro") or "").rpartition("<locals>.")[2]
    return f"{one[whose]} {coro}()" if coro else one[whose]


def wait(what, age=0.0):
    """(what a task waits for, who or what ends that) for a Wait that was written ``age`` seconds ago."""
    if what is None:
        return "nothing", "It runs as soon as its turn comes."
    kind = what["kind"]
    if kind == "any":
        parts = [wait(each, age) for each in what["of"]]
        return parts[0][0], " Or: ".join(end for _, end in parts)
    return _WAITS.get(kind, _other)(what, age)


def _due(left, age):
    # What was said a moment ago is told as it was said.
    left -= age if age > 0.5 else 0.0
    if -0.001 < left < 1e-6:
        return "due now"
    return f"due in {seconds(left)}" if left > 0 else f"{seconds(-left)} overdue"


def _timer(what, age):
    noun = "Its timeout, " if what.get("limit") else "A timer, "
    return "a timer", f"{noun}{_due(what['in'], age)}."


def _socket(what, age):
    peer = f" to {what['peer']}" if what.get("peer") else ""
    fd = f"{'pipe' if what.get('pipe') else 'socket'} fd {what['fd']}{peer}"
    if what.get("for") == "accept":
        return "a connection", f"A peer that connects to fd {what['fd']}."
    if what.get("for") == "connection":
        return "a connection", f"The kernel, when {fd} is connected or refused."
    if what["direction"] == "read":
        return "bytes to read", f"{fd}: its peer, by sending something or closing."
    return "room to write", f"{fd}: its peer, by reading what was sent."


def _thread(what, age):
    name = called(what["calls"]) if what.get("calls") else what.get("job", "a call")
    if what.get("job") in {"getaddrinfo", "getnameinfo"}:
        return "a name server (DNS)", f"The look-up in a thread ({name}), by coming back{_job(what, age)}."
    if "in_line" in what:
        return f"{name} in a thread", f"A thread of the executor, once one is free{_job(what, age)}."
    return f"{name} in a thread", f"The executor's thread, by coming back from it{_job(what, age)}."


def _job(what, age):
    """Where a call is."""
    if "in_line" in what:
        busy = count(what["threads"], "thread is", "threads are")
        return f": it is {ordinal(what['in_line'])} of {what['of']} in line, and {busy} busy"
    return f": it has run for {seconds(what['runs'] + age)}" if what.get("runs") is not None else ""


#: Who has a lock, and how that ends it.
_HOLDERS = {
    "inside": "{}, which is inside of it, by leaving it.",
    "acquired": "{}, which took it with acquire(), by releasing it.",
    "finished": "{}, which has finished without releasing it: another task would have to.",
    "itself": "Another task, by releasing it: this one has taken it already, and cannot take it twice.",
    "outside": "Whoever took it outside of any task, by releasing it.",
}


def _lock(what, age):
    on = what.get("on", "Lock")
    waiters = f" ({what['waiters']} wait)" if what.get("waiters", 0) > 1 else ""
    if how := _HOLDERS.get(what.get("held")):
        return f"a {on}{waiters}", how.format(what.get("holder") and task(what, "holder"))
    if what.get("searched"):
        end = "No task is inside of it: it was taken with acquire(), and has not been released."
        if names := what.get("in_hand"):
            more = " and others" if len(names) > 4 else ""
            end += f" Besides those who wait, {', '.join(names[:4])}{more} {'has' if len(names) == 1 else 'have'} it in hand."
        return f"a {on}{waiters}", end
    return f"a {on}{waiters}", "Whoever holds it, by giving it back; who that is has not been seen."


def holder(what):
    """What else is known of who has a lock, line by line."""
    if what.get("at") and what["held"] != "itself":
        yield f"{task(what, 'holder')} is at {place(what['at'][-1])}"
    if calls := what.get("acquires"):
        yield f"acquire() is called at {', '.join(map(place, calls))}"


def _queue(what, age):
    getting = what["kind"] == "queue-get"
    if "size" not in what:
        return f"a {what.get('on', 'Queue')}", "Whoever uses the other side of the queue."
    most = f" of {what['most']}" if what["most"] else ""
    state = f"a {what.get('on', 'Queue')} with {what['size']}{most} in it"
    if getting:
        return f"{state}, to get", "Whoever puts something in."
    if what["kind"] == "queue-join":
        return f"{state}, until all is done", _joined(what)
    return f"{state}, to put", "Whoever takes something out."


def _joined(what):
    """Who has to say task_done(), and how often."""
    left, size = what["unfinished"], what["size"]
    if left <= size:
        return "Whoever takes out what is in it, and says task_done() to each."
    out = f"{count(left - size, 'item')} {'was' if left - size == 1 else 'were'} taken out without task_done()"
    return f"Whoever works on what was taken out, by task_done(): {out}."


def _tasks(what, age):
    names = what.get("called") or what.get("tasks") or []
    shown = ", ".join(map(str, names[:4])) + (" and others" if len(names) > 4 else "")
    if what["kind"] == "gather":
        return f"gather, {what['done']} of {what['of']} done", f"{shown or 'Its tasks'}, by ending."
    noun = "its task group" if what.get("group") else "another task" if len(names) == 1 else "other tasks"
    return noun, f"{shown or 'It'}, by ending."


def _child(what, age):
    end = f"Process {what.get('pid')}, by ending."
    if full := what.get("full"):
        end += f" Its {' and '.join(full)} {'are' if full[1:] else 'is'} full: until that is read, it may not go on."
    return "a child process", end


def _simple(end):
    return lambda what, age: (a(what.get("on") or what["kind"]), end)


def _future(what, age):
    others = what.get("others")
    if others:
        end = f"Whoever has that future: {count(others, 'reference')} to it besides the task's own."
        return a(what.get("on", "future")), end
    return f"{what.get('on', 'a future')}", "Whoever is to set it."


def _nobody(what, age):
    on = what.get("on") or "future"
    if on == "the server":
        return "the end of the server", "Nobody needs to: it serves until it is cancelled."
    return (
        a(on),
        "NOBODY: nothing in the process refers to it besides the waiting task, so only a cancellation ends this.",
    )


def _other(what, age):
    return what["kind"], "It is not known who."


_WAITS = {
    "timer": _timer, "socket": _socket, "thread": _thread, "lock": _lock, "semaphore": _lock, "queue-get": _queue,
    "queue-put": _queue, "queue-join": _queue, "task": _tasks, "gather": _tasks, "child": _child, "future": _future,
    "nobody": _nobody,
    "event": _simple("Whoever sets it."),
    "condition": _simple("Whoever notifies it."),
    "barrier": _simple("The others, by coming to it."),
    "turn": lambda what, age: ("its next turn", "The loop, at once."),
    "signal": lambda what, age: ("a signal", "Whoever sends it."),
}  # fmt: skip
