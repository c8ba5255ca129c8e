"""What Linux says of a process and its threads."""

import os
import time


def _read(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return None


def status(pid, thread=None):
    """State (a letter) and seconds of processor time of a process or thread; None if there is none."""
    text = _read(f"/proc/{pid}/stat" if thread is None else f"/proc/{pid}/task/{thread}/stat")
    if text is None:
        return None
    # The name, in parentheses, may contain anything.
    fields = text.rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return {"state": fields[0], "parent": int(fields[1]), "cpu": (int(fields[11]) + int(fields[12])) / ticks}


def owner(pid):
    """Whose process it is; None if there is none."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def has_mapped(pid, path):
    """Whether the process is the one whose page this is: a number may have been given to another since."""
    text = _read(f"/proc/{pid}/maps")
    return text is not None and any(line.endswith(str(path)) for line in text.splitlines())


def catches(pid, signal):
    """Whether a signal has a handler in a process. (One without would end it.)"""
    for line in (_read(f"/proc/{pid}/status") or "").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal - 1) & 1)
    return False


def threads(pid):
    """The numbers of its threads."""
    try:
        return sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    except OSError:
        return []


def _sample(pid, thread):
    known = status(pid, thread)
    schedule = (_read(f"/proc/{pid}/task/{thread}/schedstat") or "").split()
    switches = 0
    for line in (_read(f"/proc/{pid}/task/{thread}/status") or "").splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            switches = int(line.split()[1])
    ran, waited = (
        (int(schedule[0]) / 1e9, int(schedule[1]) / 1e9) if len(schedule) == 3 else (known["cpu"] if known else 0, 0)
    )
    return ran, waited, switches, known["state"] if known else "?"


def watch(pid, seconds=0.1):
    """What each thread does for a while: {thread: {"cpu", "queued", "switches", "state", "in"}}.

    cpu and queued are shares of the time in which it ran, and in which it waited for a processor; switches how often in
    a second it waited for something; in what it waits in, as the kernel calls that.
    """
    before, begun = {thread: _sample(pid, thread) for thread in threads(pid)}, time.monotonic()
    time.sleep(seconds)
    found = {}
    for thread, (ran, waited, switches, _) in before.items():
        ran_now, waited_now, switches_now, state = _sample(pid, thread)
        took = time.monotonic() - begun
        place = (_read(f"/proc/{pid}/task/{thread}/wchan") or "").strip()
        found[thread] = {
            "cpu": min(1.0, (ran_now - ran) / took),
            "queued": min(1.0, (waited_now - waited) / took),
            "switches": (switches_now - switches) / took,
            "state": state,
            "in": place if place not in {"", "0"} else None,
        }
    return found
