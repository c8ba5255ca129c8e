"""A loop asleep in the operating system: what it is to be woken by, and what has woken it.

That it is awake is told only when somebody becomes ready by it: a loop that wakes for its own errands sleeps on, in the
story.
"""

from .waits import Stand, leaves

_FROM_OUTSIDE = {"timer", "socket", "thread", "signal", "child"}


class Sleep:
    def __init__(self, observer):
        self._observer = observer
        self._since = None  # when it fell asleep, on the story's clock; None: what is to be told of it has been told
        self._until = None  # when it woke
        self._causes = []
        self._woke = 0.0  # when the operating system has last answered, by the loop's clock

    def begin(self, timer):
        observer = self._observer
        if self._since is not None:
            # It woke for errands only.
            self._causes.clear()
            self._until = None
            return
        waiting = [life for life in observer.lives() if life.state == "waiting"]
        if waiting and not any(map(observer.is_told, waiting)):
            # asyncio.run() cleans up.
            return
        observer.descriptors.refresh()
        waits = [(life, wait) for life in waiting for wait in self._present(life)]
        event = {
            "event": "asleep",
            "until": None if timer is None else self._limit(*timer),
            "watches": observer.descriptors.watched(waits),
        }
        jobs = self._jobs(waits)
        for title, found in (
            ("threads", [job["job"] for job in jobs if "process" not in job]),
            ("processes", [job["job"] for job in jobs if "process" in job]),
            ("children", [wait["pid"] for _, wait in waits if wait["kind"] == "child"]),
        ):
            if found:
                event[title] = list(dict.fromkeys(found))
        observer.tell(event)
        self._since, self._until, self._causes = observer.recorder.now(observer), None, []

    def _jobs(self, waits):
        """What runs in threads, as ``waits`` and the loop know it."""
        return [wait for _, wait in waits if wait["kind"] == "thread"] + self._observer.running_jobs()

    def _limit(self, number, when):
        timers = self._observer.timers
        known = timers.get(number)
        limit = {"timer": known.number if known else None, "in": timers.left(when)}
        if known is not None and known.owner is not None and known.owner.number:
            limit["task"] = known.owner.number
        if known is not None and known.limit:
            limit["limit"] = True
        return limit

    def _present(self, life):
        """What a task waits for now: of a connection that was just asked for, the socket is there only by now."""
        task = life.task()
        if life.hops and task is not None and life.wait["kind"] == "future":
            life.wait = self._observer.waits.of(task, Stand(task))
        return leaves(life.wait)

    def end(self):
        observer = self._observer
        self._woke = observer.loop.time()
        if self._since is not None:
            self._until = observer.recorder.now(observer)

    def note(self, kind, payload, cause):
        """Something is queued: if the loop has just woken up, this is why."""
        observer = self._observer
        if self._since is None or self._until is None or observer.step is not None:
            return
        if cause["kind"] not in _FROM_OUTSIDE:
            return
        cause = dict(cause)
        if kind == "timer":
            timer = observer.timers.get(payload)
            if timer is not None and not observer.virtual:
                cause["late"] = round(max(0.0, self._woke - timer.when), 9)
        if kind == "descriptor":
            cause |= observer.descriptors.news(cause, observer.recorder.now(observer))
        if kind == "thread":
            waiting = [
                (life, wait) for life in observer.lives() if life.state == "waiting" for wait in leaves(life.wait)
            ]
            jobs = {job["job"]: job for job in self._jobs(waiting)}
            if len(jobs) == 1:
                cause |= {key: value for key, value in [*jobs.values()][0].items() if key != "kind"}
        if cause not in self._causes:
            self._causes.append(cause)

    def tell_end(self):
        if self._since is None or self._until is None:
            return
        observer, slept = self._observer, max(0.0, self._until - self._since)
        self._since = None
        event = {"event": "awake", "slept": round(slept, 9), "by": self._causes}
        late = [cause["late"] for cause in self._causes if "late" in cause]
        if late:
            event["late"] = late[0]
        observer.recorder.emit(observer, event, at=self._until)
