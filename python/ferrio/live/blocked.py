"""A loop that does not answer: by what line, and whose fault it is.

Three kinds are told apart, because they have different remedies: its own code computes; its own code waits in the
operating system; or it could go on, and does not get the interpreter's lock because another thread keeps it. A thread
that waits for that lock wakes up every few milliseconds to ask for it, which the kernel counts.
"""

import re
import time

from . import proc, words

#: So often in a second a thread wakes up at least that waits for the interpreter's lock (Python asks every 5 ms).
_ASKING = 60

#: A share of the time on a processor that counts as computing.
_COMPUTING = 0.5

#: With less of a processor than this the machine is the reason.
_STARVED = 0.1

#: Files of the machinery around a program: their lines say nothing of why it is blocked.
_MACHINERY = (
    "/asyncio/runners.py",
    "/asyncio/base_events.py",
    "/ferrio/runners.py",
    "/ferrio/__main__.py",
    "/ferrio/_program.py",
)

#: Where a loop is that writes the snapshot it was asked for.
_LOOKING = "/ferrio/live/"

#: What is in such folders others have written, or is in no file.
_LIBRARY = re.compile(r"/(site|dist)-packages/|/lib(64)?/python3\.\d+/|^<")


def look(process, one, snapshot):
    """Why a loop that was asked has not answered, as plain data; None if it has moved on meanwhile."""
    about = {"kind": "unknown", "for": _for(one, snapshot), "stack": [], "threads": []}
    if not process.is_alive:
        return None
    if process.is_stopped:
        return about | {"kind": "stopped"}
    stacks = process.stacks(one["thread"])
    doing = proc.watch(process.pid)
    now = next((again for again in process.page.loops() if again["slot"] == one["slot"]), one)
    if now["steps"] != one["steps"] and now["sleeps"] != one["sleeps"]:
        return None
    if any(_LOOKING in line[0] for stack in stacks if stack["is_current"] for line in stack["stack"]):
        # It is about to answer.
        return None
    own = doing.get(one["thread"], {"cpu": 0.0, "queued": 0.0, "switches": 0.0, "state": "?", "in": None})
    if now["state"] == "asleep" and "poll" in (own["in"] or ""):
        # It sleeps, and had no room for an answer. (One that has woken up has to get the interpreter's lock first.)
        return None
    about |= {"cpu": round(own["cpu"], 2), "queued": round(own["queued"], 2), "in": own["in"]}
    names = {ident: (native, name) for ident, native, name in (snapshot or {}).get("threads", [])}
    for stack in stacks:
        native, name = names.get(stack["thread"], (None, None))
        if stack["is_current"]:
            about["stack"] = stack["stack"][:20]
            native = one["thread"]
        about["threads"].append({"thread": native, "name": name, "stack": stack["stack"][:6], **doing.get(native, {})})
    if own["cpu"] < _COMPUTING and own["switches"] >= _ASKING and own["state"] == "S":
        about["kind"] = "lock"
        about["keeper"] = _keeper(about["threads"], one["thread"], doing)
    elif own["cpu"] + own["queued"] >= _COMPUTING:
        about["kind"] = "computing" if own["cpu"] >= _STARVED else "starved"
        if about["kind"] == "starved" and own["switches"] > 0:
            # Whoever asks for the interpreter's lock needs a processor for that, too.
            about["keeper"] = _keeper(about["threads"], one["thread"], doing)
            about["kind"] = "lock" if about["keeper"] else "starved"
    else:
        about["kind"] = "waiting"
        if own["switches"] > 0 and "futex" in (own["in"] or "futex"):
            # The same, where the one that keeps it leaves too little of the machine.
            about["keeper"] = _keeper(about["threads"], one["thread"], doing)
            about["kind"] = "lock" if about["keeper"] and _computes(about["keeper"]) else "waiting"
    return about


def _computes(thread):
    return thread.get("cpu", 0.0) + thread.get("queued", 0.0) >= _COMPUTING


def _for(one, snapshot):
    """For how many seconds the loop has not looked for news."""
    since = one["looked"] if one["state"] == "running" and one["looked"] else one["since"]
    return round(max(0.0, time.monotonic() - since), 3)


def _keeper(threads, loop_thread, doing):
    """The thread that keeps the interpreter's lock, most likely: one that runs Python and does not ask for the lock."""
    candidates = []
    for thread in threads:
        if thread["thread"] == loop_thread or not thread["stack"]:
            continue
        if thread.get("switches", 0.0) >= _ASKING and thread.get("cpu", 0.0) < 0.05:
            continue
        idle = thread["stack"][0][0].endswith(("/threading.py", "/queue.py", "concurrent/futures/thread.py"))
        candidates.append((thread.get("cpu", 0.0), not idle, thread))
    candidates.sort(key=lambda known: (known[1], known[0]), reverse=True)
    return candidates[0][2] if candidates and candidates[0][1] else None


def line_of(stack):
    """The innermost line of the program's own; of a library's if there is none; not that of the machinery around it."""
    lines = [line for line in stack if not line[0].endswith(_MACHINERY)]
    own = [line for line in lines if not _LIBRARY.search(line[0])]
    return next(iter(own or lines), None)


def tell(about):
    """In words, line by line."""
    took = words.seconds(about["for"])
    line = line_of(about["stack"])
    at = f" at {words.place(line)}" if line else ""
    kind = about["kind"]
    if kind == "stopped":
        yield "STOPPED: the process does not run (SIGSTOP, or a debugger). SIGCONT lets it go on."
        yield f"    The loop has done nothing for {took}."
        return
    if kind == "lock":
        yield f"BLOCKED for {took}: the loop could go on, but another thread keeps the interpreter's lock (GIL)."
        keeper = about.get("keeper")
        if keeper:
            name = f" {keeper['name']}" if keeper.get("name") else ""
            # (Which of the kernel's threads it is, a snapshot says. There may be none.)
            waits = "waits in C code without giving it up" if "cpu" in keeper else "does not give it up"
            does = "computes" if _computes(keeper) else waits
            line, inner = line_of(keeper["stack"]) or keeper["stack"][0], keeper["stack"][0]
            yield f"    thread{name} {does}: {words.place(line)}{f', in {words.place(inner)}' if inner != line else ''}"
        else:
            yield "    by which thread is not to be seen: none of them is at a line of Python's."
        return
    own = {
        "computing": f"its own code computes ({about.get('cpu', 0):.0%} of a processor{_queued(about)})",
        "starved": "its own code would compute, but the machine has no processor free for it",
        "waiting": f"its own code waits in the operating system{_in(about)} and keeps the loop waiting",
    }.get(kind, "it does not answer")
    yield f"BLOCKED for {took}{at}: {own}."
    for line in about["stack"][:8]:
        if not line[0].endswith(_MACHINERY):
            yield f"    {words.place(line)}"
    if not about["stack"]:
        yield "    (its stack cannot be had: no signal is free for that, or it is blocked in the thread)"


def _queued(about):
    return f", and waits for one {about['queued']:.0%} of the time" if about.get("queued", 0.0) >= 0.2 else ""


def _in(about):
    return f" ({about['in']})" if about.get("in") else ""
