"""The sums at the end: who ran how long, how long the loop slept, what the waits would have taken in a row, and who woke whom."""

#: So many chains are shown, and each of at most so many links.
_CHAINS = 8
_LINKS = 8
_RUNS = 1000

#: What of a cause says which it is.
_NAMES = {"kind", "timer", "fd", "direction", "pipe", "child", "number", "pid"}

_FROM_OUTSIDE = {"timer", "socket", "thread", "signal", "child"}


class Bill:
    def __init__(self):
        self._ran = {}
        self._asleep = 0.0
        self._wakes = 0
        self._waits = 0.0
        #: Whether somebody waits for clients: that is no work that could be done one after the other.
        self._serves = False
        self._chains = []
        self._more = 0
        self._open = {}  # number of a task → the chain that it is the end of
        self._timers = {}  # number → seconds for which it was set

    def ran(self, life, seconds):
        if life.number:
            self._ran[life.number] = self._ran.get(life.number, 0.0) + seconds

    def waited(self, now, life):
        """A task's wait is over. Waits for other tasks are theirs already."""
        wait = life.wait or {}
        if wait.get("kind") == "any":
            wait = wait["of"][0]
        # (What a child writes comes while it runs, which is waited for anyhow.)
        ends = {"timer", "socket", "thread", "child"} if not wait.get("pipe") else {}
        if life.paused is not None and life.number and wait.get("kind") in ends:
            self._waits += now - life.paused

    def note(self, event):
        kind = event["event"]
        if kind == "awake":
            self._asleep += event["slept"]
            self._wakes += 1
        elif kind == "asleep":
            self._serves = self._serves or any("listens" in watch for watch in event["watches"])
        elif kind == "pause":
            for wait in (
                event["waits"].get("of", [event["waits"]]) if event["waits"]["kind"] == "any" else [event["waits"]]
            ):
                if wait["kind"] == "timer" and len(self._timers) < _RUNS:
                    self._timers[wait["timer"]] = wait["in"]
        elif kind == "ready":
            self._link(event["because"], event["task"])
        elif kind == "queued":
            self._open.pop(event["task"], None)
        elif kind == "finish" and "asyncio.run" in event["tells"]:
            self._follow(event["task"], "end", _LINKS + 1)

    def _link(self, cause, task):
        if cause["kind"] == "cancel":
            # By a task, the end of a task in a group, or a timeout.
            by = cause.get("task") or cause.get("because_of")
            cause = {"kind": "task", "task": by} if by else {"kind": "timer", "timer": cause.get("timer")}
            if by is None and cause["timer"] is None:
                return
        if cause["kind"] == "callback":
            self._link(cause["because"], task)
            chain = self._open.get(task)
            if chain is not None and chain[-1] == task and len(chain) == 2:
                chain.insert(1, {"kind": "callback", "what": cause["what"]})
            return
        if cause["kind"] in _FROM_OUTSIDE:
            cause = {key: value for key, value in cause.items() if key in _NAMES}
            if cause["kind"] == "timer" and cause["timer"] in self._timers:
                cause["in"] = self._timers[cause["timer"]]
            self._begin([cause, task])
        elif cause["kind"] == "task":
            self._follow(cause["task"], task, _LINKS)

    def _follow(self, cause, link, most):
        """What comes of a task, in chains of ``most`` links."""
        chain = self._open.get(cause)
        if chain is None:
            return
        if chain[-1] != cause:
            # Something else has come of it before: this is a branch.
            end = len(chain) - chain[::-1].index(cause)
            self._begin([*chain[:end], link])
        elif len(chain) < most:
            chain.append(link)
            self._open[link] = chain

    def _begin(self, chain):
        if len(self._chains) < _CHAINS:
            self._chains.append(chain)
        else:
            self._more += 1
        self._open[chain[-1]] = chain

    def event(self, now, error):
        python = sum(self._ran.values())
        return {
            "event": "bill",
            "elapsed": round(now, 9),
            "ran": {task: round(seconds, 9) for task, seconds in self._ran.items()},
            "python": round(python, 9),
            "asleep": round(self._asleep, 9),
            "wakes": self._wakes,
            "one_by_one": round(python + self._waits, 9) if not self._serves else None,
            "chains": self._chains,
            "more_chains": self._more,
            "error": type(error).__name__ if error is not None else None,
        }
