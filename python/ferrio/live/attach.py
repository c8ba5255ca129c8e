"""The processes that have a loop, seen from another one: their pages, their snapshots, their threads' stacks.

Needs no more than to be the same user. A process that is stopped, blocked or dead is looked at all the same: what is
read then is older, and says how old.
"""

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path

from .. import _ferrio
from ..explain.waits import leaves
from . import proc, stacks

#: Of the snapshots that are understood here: see `snapshot.VERSION`.
VERSION = 3


#: Seconds that a loop may take for a snapshot.
_MOST_PATIENCE = 30.0


class NotThere(Exception):
    """Whom one wants to look at cannot be looked at; the text says why, in one line."""


def processes():
    """The pages of all processes, newest first; those of dead ones too."""
    folder = _ferrio.page_folder()
    found = []
    for path in Path(folder).glob("*.loop") if folder else ():
        with contextlib.suppress(OSError):
            found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)]


def find(word):
    """The process with this number, or the only living one with this word in its command line.

    :raises NotThere: if there is none, or more than one.
    """
    if word.isdigit():
        return Process(int(word))
    matching = []
    for path in processes():
        with contextlib.suppress(NotThere):
            process = Process(int(path.stem))
            if process.is_alive and process.pid != os.getpid() and word in process.title:
                matching.append(process)
    if not matching:
        raise NotThere(f"no running process with a loop of ferrio's has {word!r} in its command line")
    if len(matching) > 1:
        numbers = ", ".join(str(process.pid) for process in matching)
        raise NotThere(f"several processes have {word!r} in their command line: {numbers}")
    return matching[0]


class Process:
    """A process with a page."""

    def __init__(self, pid):
        self.pid = pid
        folder = _ferrio.page_folder()
        if folder is None:
            raise NotThere("there is no tmpfs here on which processes could leave their pages")
        self.path = Path(folder) / f"{pid}.loop"
        try:
            self.page = _ferrio.PageView(self.path)
        except FileNotFoundError:
            raise NotThere(self._why_no_page()) from None
        except PermissionError:
            raise NotThere(f"process {pid} is another user's") from None
        except OSError as error:
            if error.errno is None:
                why = str(error).removeprefix(f"{self.path}: ")
                raise NotThere(
                    f"process {pid} runs another ferrio than this one ({_ferrio.__version__}): it left {why}"
                ) from None
            raise NotThere(f"the page of process {pid} cannot be read: {error.strerror or error}") from None
        self.about = self.page.process()
        self.title = _short(self.about["title"])
        self.runtime = self.about["runtime"]
        status = proc.status(pid)
        self.is_alive = status is not None and status["state"] != "Z" and proc.has_mapped(pid, self.path)
        self.is_stopped = self.is_alive and status["state"] in "Tt"

    def _why_no_page(self):
        owner = proc.owner(self.pid)
        if owner is None:
            return f"there is no process {self.pid}, and none has left a page under this number"
        if owner != os.geteuid():
            return f"process {self.pid} is another user's"
        told = f"process {self.pid} runs no loop of ferrio's (or keeps no page of it: FERRIO_PAGE=off, no tmpfs)"
        children = [path.stem for path in processes() if (proc.status(int(path.stem)) or {}).get("parent") == self.pid]
        return f"{told}; of its children do {', '.join(sorted(children, key=int))}" if children else told

    # --- loops -------------------------------------------------------------------------------------------------------

    def loops(self):
        """The counters of its loops; those that run first."""
        loops = sorted(self.page.loops(), key=lambda one: one["state"] == "idle")
        now = time.monotonic()
        for one in loops:
            # The page counts a sleep when it is over.
            one["asleep"] = one["slept"] + (now - one["since"] if one["state"] == "asleep" and self.is_alive else 0.0)
        return loops

    def snapshot(self, slot):
        """The newest snapshot of a loop, with "age" in seconds; None if it has left none."""
        found = self.page.snapshot(slot)
        if found is None:
            return None
        when, _, text = found
        try:
            snapshot = json.loads(text)
        except ValueError:
            return None
        if not isinstance(snapshot, dict) or snapshot.get("version") != VERSION:
            return None
        snapshot["age"] = max(0.0, (time.monotonic() if self.is_alive else self.last_seen()) - when)
        self._look_back(slot, snapshot)
        return snapshot

    def _look_back(self, slot, snapshot):
        """Who waits in a loop that has run nothing since it fell asleep has waited for so long, at least: nobody may have
        looked at it before."""
        quiet = next((one["quiet"] for one in self.page.loops() if one["slot"] == slot), None)
        if quiet is None or quiet > snapshot["began"]:
            return
        for name, all_ in (("since", snapshot["tasks"]["described"]), ("full_since", snapshot["executors"])):
            for one in all_:
                if one.get(name) is not None:
                    one[name] = min(one[name], quiet)
        for one in snapshot["tasks"]["described"]:
            for leaf in leaves(one["wait"]):
                if "still_since" in leaf:
                    leaf["still_since"] = min(leaf["still_since"], quiet)

    def last_seen(self):
        """The last moment of which the page tells, in seconds of ``time.monotonic()``."""
        moments = [self.about["began_monotonic"]]
        for one in self.page.loops():
            moments += [one["since"], one["looked"], one["run_began"]]
            found = self.page.snapshot(one["slot"])
            moments += [found[0]] if found else []
        return max(moments)

    def refresh(self, patience=0.5):
        """Has the loops write new snapshots. Returns the slots of running loops that have not done so in time.

        A loop that has heard of it gets all the time that it takes, as long as its turns go on."""
        if not self.is_alive or self.is_stopped:
            return []
        request = self.page.request()
        begun = time.monotonic()
        waiting = {one["slot"]: (None, begun) for one in self.page.loops() if one["state"] != "idle"}
        again = 0.0
        while waiting:
            now = time.monotonic()
            if now >= again:
                # Once more, for one that was about to sleep when it was asked.
                again = now + 0.05
                self.wake(waiting)
            time.sleep(0.002)
            for one in self.page.loops():
                slot = one["slot"]
                if slot not in waiting:
                    continue
                found = self.page.snapshot(slot)
                turns, moved = waiting[slot]
                # One whose snapshots have no room in the page answers by hearing of it.
                answer = one["heard"] if not one["has_room"] else found[1] if found is not None else None
                if answer is not None and _is_since(answer, request):
                    del waiting[slot]
                elif _is_since(one["heard"], request) and one["turns"] != turns and now - begun < _MOST_PATIENCE:
                    waiting[slot] = one["turns"], now
            if all(now - moved > patience for _, moved in waiting.values()):
                break
        return sorted(waiting)

    def wake(self, slots=None):
        """A loop that sleeps does not see that it is asked: a signal wakes it. Others do not mind."""
        for one in self.page.loops():
            if one["state"] == "asleep" and (slots is None or one["slot"] in slots):
                self._signal(one["thread"], self.about["signal"] + 1)

    # --- stacks ------------------------------------------------------------------------------------------------------

    def stacks(self, thread, patience=0.5):
        """The Python stacks of all threads now, that of ``thread`` first; [] if they cannot be had."""
        try:
            with self._stacks() as file:
                if not self._signal(thread, self.about["signal"]):
                    return []
                text = _whole(file, time.monotonic() + patience)
        except OSError:
            return []
        return stacks.parse(text)

    @contextlib.contextmanager
    def _stacks(self):
        """The file of the stacks, emptied, for us alone."""
        with open(self.path.with_suffix(".stacks"), "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.ftruncate(file.fileno(), 0)
            yield file

    def _signal(self, thread, number):
        """Sends a signal to one of its threads, if it is certain to be caught."""
        if not self.about["signal"] or not self.is_alive or not proc.catches(self.pid, number):
            return False
        try:
            _ferrio.signal_thread(self.pid, thread, number)
        except OSError:
            return False
        return True


def _is_since(answer, request):
    """Whether an answer is one to this request or to a later one."""
    return (answer - request) % 2**32 < 2**31


def _whole(file, until):
    """What is written into a file, once nothing has come for a while."""
    text, quiet = b"", 0
    while time.monotonic() < until and quiet < 5:
        time.sleep(0.003)
        file.seek(0)
        now = file.read()
        quiet = quiet + 1 if now and now == text else 0
        text = now
    return text.decode(errors="replace")


def _short(title):
    words = title.split()
    if words and "python" in os.path.basename(words[0]):
        words = words[1:]
    return " ".join(words) or title
