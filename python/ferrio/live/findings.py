"""What is wrong with a process, as far as that shows: the rules of ``ferrio doctor``.

A finding must be able to prove itself: it says what was seen, where, and for how long. What a healthy program does as
well is no finding. Each rule gets what one loop has left, and yields findings.
"""

import collections
import time

from ..explain.reckoning import enumerate_
from . import blocked, proc, words

WARNING, BROKEN = 1, 2

#: So many tasks, queue items or timers are many.
_MANY_TASKS, _MANY_ITEMS, _MANY_TIMERS = 500, 200, 10_000
#: In a second.
_TIMER_STORM, _SIGNAL_STORM = 10_000, 300
#: Seconds that a turn may take.
_SLOW_TURN = 0.25
#: States in which a task waits for somebody who can come at any time.
_OUTSIDE = {"socket-read", "accept", "socket-write", "connect"}
#: States that another task of the loop has to end.
_INSIDE = {
    "lock", "semaphore", "condition", "event", "barrier", "queue-get", "queue-put", "queue-join", "task", "gather", "future",
    "nobody",
}  # fmt: skip
#: Those of them in which a main task waits until it is told to end.
_FOR_EVER = {"event", "condition", "queue-get", "future", "nobody"}


def finding(kind, severity, text, *details, **data):
    return {"kind": kind, "severity": severity, "text": text, "details": list(details), **data}


class Loop:
    """One loop as it was seen: counters twice, some moments apart, and its snapshots."""

    def __init__(self, process, before, after, earlier, snapshot, seconds, is_silent, patience):
        self.process = process
        self.before, self.counters = before, after
        self.earlier, self.snapshot = earlier, snapshot
        self.seconds = seconds
        self.is_silent = is_silent
        #: Seconds that somebody may wait before that is a finding.
        self.patience = patience

    def rate(self, name):
        """In a second, by the two snapshots."""
        first, last = self.earlier, self.snapshot
        if not first or not last or last["at"] - first["at"] < 0.05:
            return 0.0
        return (last[name] - first[name]) / (last["at"] - first["at"])

    def tasks(self):
        return self.snapshot["tasks"]["described"] if self.snapshot else []


def all_of(loop):
    """Every finding about a loop, the worst first."""
    found = []
    for rule in _RULES:
        found += rule(loop)
    if all(one["kind"] == "slow-turn" for one in found):
        found += _standstill(loop)
    return sorted(found, key=lambda one: -one["severity"])


def _blocked(loop):
    if not loop.is_silent:
        return
    about = blocked.look(loop.process, loop.counters, loop.snapshot)
    if about is not None and (about["for"] > _SLOW_TURN or about["kind"] == "stopped"):
        first, *rest = blocked.tell(about)
        kind = {"lock": "gil", "computing": "cpu-loop", "waiting": "blocking-call"}.get(about["kind"], about["kind"])
        yield finding(kind, BROKEN, first, *(line.strip() for line in rest), blocked=about)


def _slow(loop):
    counters, now = loop.counters, time.monotonic()
    ago = now - counters["longest_turn_at"]
    if counters["longest_turn"] >= _SLOW_TURN and loop.process.is_alive and ago < 60:
        took = words.seconds(counters["longest_turn"])
        text = f"A turn of the loop took {took}, {words.seconds(ago)} ago: everything else had to wait."
        yield finding(
            "slow-turn", WARNING, text, f"{words.count(counters['slow_turns'], 'turn')} of 0.1 s or more so far."
        )


def _timers(loop):
    before, after = loop.before, loop.counters
    rate = (after["late"]["count"] - before["late"]["count"]) / loop.seconds if loop.seconds else 0.0
    timers = loop.snapshot["timers"] if loop.snapshot else {"count": 0, "kinds": []}
    most = timers["kinds"][0] if timers["kinds"] else None
    what = f"{most['count']:,} of them call {words.called(most['calls'])}." if most else ""
    if rate >= _TIMER_STORM:
        text = f"Timer storm: {rate:,.0f} timers go off in a second; {timers['count']:,} are set."
        yield finding("timer-storm", WARNING, text, what, rate=round(rate))
    elif timers["count"] >= _MANY_TIMERS and timers["count"] > 2 * loop.snapshot["tasks"]["count"]:
        text = f"{timers['count']:,} timers are set, for {words.count(loop.snapshot['tasks']['count'], 'task')}."
        yield finding("timer-storm", WARNING, text, what)


def _signals(loop):
    rate = loop.rate("signals") if loop.earlier else 0.0
    if rate >= _SIGNAL_STORM:
        yield finding(
            "signal-storm", WARNING, f"Signal storm: {rate:,.0f} signals wake the loop in a second.", rate=round(rate)
        )


def _growing(loop):
    """Tasks that become more and more, and none of which waits for somebody outside."""
    if not loop.snapshot:
        return
    history = loop.snapshot["history"][-6:]
    counts = [tasks for _, tasks, *_ in history]
    most = loop.snapshot["tasks"]["groups"][0] if loop.snapshot["tasks"]["groups"] else None
    if len(counts) < 4 or counts[-1] < _MANY_TASKS or most is None or most["state"] in _OUTSIDE:
        return
    if all(later > sooner for sooner, later in zip(counts, counts[1:])) and counts[-1] - counts[0] >= 50:
        took = words.seconds(history[-1][0] - history[0][0])
        text = f"Task leak: {counts[0]:,} tasks have become {counts[-1]:,} in {took}, without an end."
        detail = f"{most['count']:,} are {most['coro']}() at {words.place(most['line'])} (state: {most['state']})."
        yield finding("task-leak", WARNING, text, detail)


def _lost(loop):
    """Tasks that nobody can wake. A main task that waits so is how a program runs until it is told to end."""
    lost = [task for task in loop.tasks() if task["state"] == "nobody" and not task.get("main")]
    for line, tasks in _by_line(lost).items():
        first = tasks[0]
        text = f"Lost: {_who(tasks)} for {words.a(first['wait'].get('on', 'future'))} that nobody can reach any more."
        at = f"at {words.place(line)}; nothing can end that but a cancellation."
        looked, count = len(loop.tasks()), loop.snapshot["tasks"]["count"]
        of = f"Of {count:,} tasks {looked:,} were looked at." if count > looked else ""
        yield finding("lost-future", WARNING, text, at, of)


def _standstill(loop):
    """A loop in which everybody waits for each other. (What has been found already says more of the cause.)"""
    snapshot, tasks = loop.snapshot, loop.tasks()
    if not snapshot or loop.is_silent or not loop.process.is_alive or not 0 < snapshot["tasks"]["count"] == len(tasks):
        return
    idle = sum(executor["threads"] - executor["busy"] for executor in snapshot["executors"])
    is_alone = len(proc.threads(loop.process.pid)) - idle <= 1
    if not is_alone or any(snapshot[name]["count"] for name in ("timers", "descriptors", "ready")):
        return
    if not all(_is_inside(task) and task.get("waits", 0) >= loop.patience for task in tasks):
        return
    who = (
        f"all {len(tasks)} tasks wait for what only one of them"
        if tasks[1:]
        else "the only task waits for what only another"
    )
    waits = [
        f"{_who(those)} for {words.wait(_first(those[0]))[0]}, at {words.place(line)}."
        for line, those in _by_line(tasks).items()
    ]
    nobody = "No timer is set, no socket is watched, and there is no other thread: only a signal can wake the loop."
    yield finding("standstill", WARNING, f"Standstill: {who} could do.", nobody, *waits[:5])


def _is_inside(task):
    return task["state"] in _INSIDE and not (task.get("main") and task["state"] in _FOR_EVER)


def _circles(loop):
    """Tasks that wait, in a circle, for each other's locks, without a timeout that would end that; one circle at a time."""
    waiting = {task["id"]: task for task in loop.tasks() if task["state"] == "lock" and task["wait"]["kind"] == "lock"}
    told = set()
    for task in waiting.values():
        circle, other = {}, task
        while other is not None and other["id"] not in circle:
            circle[other["id"]] = other
            other = waiting.get(other["wait"].get("held_by"))
        # A circle does not pass: what looks like one at one look may be of two moments.
        is_one = other is task and min(each.get("waits", 0) for each in circle.values()) >= 0.2
        if is_one and told.isdisjoint(circle):
            told.update(circle)
            yield list(circle.values())


def _deadlocks(loop):
    for circle in _circles(loop):
        names = [words.task(task) for task in circle]
        if len(names) == 1:
            text = f"Deadlock: {names[0]} waits for a lock that it has taken itself."
        else:
            text = f"Deadlock: {enumerate_(names)} wait in a circle for each other's locks."
        places = [
            f"{name} waits at {words.place(task['stack'][-1])}." for name, task in zip(names, circle) if task["stack"]
        ]
        yield finding("deadlock", WARNING, text, *places[:4], "Only a cancellation ends that.")


def _locks(loop):
    told = {task["id"] for circle in _circles(loop) for task in circle}
    waiting = [task for task in loop.tasks() if task["state"] in {"lock", "semaphore"} and task["id"] not in told]
    waiting = [task for task in waiting if task.get("waits", 0) >= loop.patience]
    for line, tasks in _by_line(waiting).items():
        longest = max(tasks, key=lambda task: task.get("waits", 0))
        what, ends = words.wait(_first(longest))
        took = words.seconds(longest.get("waits", 0))
        text = f"{_who(tasks)} for {what}, for {took} or longer, at {words.place(line)}."
        yield finding("lock", WARNING, text, f"Who could end it: {ends}", *_holder(loop, _first(longest)))


def _holder(loop, leaf):
    """What else is known of the holder of a lock: where it stands, and what it waits for itself. If that is a lock as well, the
    same of its holder, and so on to who waits for something else."""
    tasks, told = {task["id"]: task for task in loop.tasks()}, set()
    while leaf.get("held_by") not in told:
        told.add(leaf.get("held_by"))
        other = tasks.get(leaf.get("held_by"))
        for line in words.holder(leaf):
            is_known = other and other["wait"] and " is at " in line
            waits = f", and waits for {words.wait(other['wait'])[0]}" if is_known else ""
            yield f"{line}{waits}."
        leaf = _first(other) if other else {}


def _queues(loop):
    """Queues that become longer and longer, and tasks for which there is no room."""
    if not loop.snapshot:
        return
    for queue in loop.snapshot["queues"]:
        sizes = queue["sizes"][-5:]
        grows = all(later[1] > sooner[1] for sooner, later in zip(sizes, sizes[1:]))
        at = f" (in the hands of {words.place(queue['where'])})" if queue["where"] else ""
        if len(sizes) >= 4 and grows and queue["size"] >= _MANY_ITEMS:
            took = words.seconds(sizes[-1][0] - sizes[0][0])
            text = f"Slow consumer: a queue has grown from {sizes[0][1]:,} to {sizes[-1][1]:,} in {took}{at}."
            yield finding("slow-consumer", WARNING, text)
    waiting = [task for task in loop.tasks() if task["state"] == "queue-put" and task.get("waits", 0) >= loop.patience]
    by_queue = {}
    for task in waiting:
        by_queue.setdefault(_first(task).get("queue"), []).append(task)
    for line, tasks in [each for those in by_queue.values() for each in _by_line(those).items()]:
        took = words.seconds(max(task["waits"] for task in tasks))
        leaf = _first(tasks[0])
        what, _ = words.wait(leaf)
        # Nobody has made room all the while. Whether somebody is still to take, that does not tell.
        is_stalled = "still" in leaf and leaf["still"] >= loop.patience and not leaf["getters"]
        text = f"{_who(tasks)} for {what}, for {took} or longer, at {words.place(line)}."
        more = "still" in leaf and leaf["putters"] > len(tasks)
        details = [f"In all {leaf['putters']:,} wait to put."] if more else []
        if is_stalled:
            still = words.seconds(leaf["still"])
            details.append(f"Nothing has been taken out of it for {still} or longer, and no task waits to get.")
        yield finding("slow-consumer", WARNING, f"{'Stalled' if is_stalled else 'Slow'} consumer: {text}", *details)


def _peers(loop):
    """Peers that do not answer, peers that do not read, and what we do not read."""
    if not loop.snapshot:
        return
    described = loop.snapshot["descriptors"]["described"]
    own_ports = {about["own"] for about in described if about["owner"] == "Listener" and about.get("own")}
    ports = {own.rpartition(":")[2] for own in own_ports}
    waiting = {}
    for task in loop.tasks():
        leaf = _first(task)
        if leaf.get("kind") == "socket" and leaf.get("fd") is not None:
            waiting[leaf["fd"], leaf["direction"]] = task
    for about in described:
        fd, peer = about["fd"], about.get("peer")
        if not peer:
            continue
        reader, writer = waiting.get((fd, "read")), waiting.get((fd, "write"))
        is_client = (about.get("own") or "").rpartition(":")[2] not in ports
        if (
            reader
            and is_client
            and about.get("asked")
            and reader.get("waits", 0) >= loop.patience <= about["sent"]
            and reader["wait"]["kind"] != "any"
        ):
            text = f"Stuck peer: {peer} has not answered for {words.seconds(about['sent'])}; {words.task(reader)} waits, without a timeout."
            yield finding("stuck-peer", WARNING, text, f"at {words.place(reader['stack'][-1])}, fd {fd}.")
        if (
            writer
            and writer.get("waits", 0) >= loop.patience
            or about.get("full")
            and about.get("sent", 0) >= loop.patience
        ):
            held = words.size(about.get("buffered", 0) + about.get("unsent", 0))
            at = (
                f"{words.task(writer)} waits at {words.place(writer['stack'][-1])}."
                if writer and writer["stack"]
                else ""
            )
            yield finding(
                "stuck-peer", WARNING, f"Full write buffer: {peer} (fd {fd}) does not read; {held} wait for it.", at
            )
        if "unread_since" in about:
            since = loop.snapshot["at"] - about["unread_since"] + loop.snapshot["age"]
            if since >= loop.patience:
                text = f"Unread: {words.size(about['unread'])} from {peer} (fd {fd}) have not been read for {words.seconds(since)}."
                yield finding(
                    "unread-socket", WARNING, text, "The reader's buffer is full: whoever is to take from it does not."
                )


def _executors(loop):
    snapshot = loop.snapshot
    if not snapshot:
        return
    asked = collections.Counter(
        words.called(_first(task)["calls"])
        for task in loop.tasks()
        if "in_line" in _first(task) and _first(task).get("calls")
    )
    for executor in snapshot["executors"]:
        since = executor["full_since"]
        waits = snapshot["at"] - since + snapshot["age"] if since is not None else 0.0
        if since is not None and waits >= min(1.0, loop.patience):
            line = f"{words.count(executor['queued'], 'call')} in line for {words.seconds(waits)} or longer"
            text = f"Executor full: all {executor['busy']} threads of {executor['name']!r} are busy, {line}."
            jobs = ", ".join(f"{count:,} {words.called(name)}" for count, *name in executor["jobs"][:3])
            wanted = ", ".join(f"{count:,} {name}" for name, count in asked.most_common(3))
            yield finding("executor-full", WARNING, text, f"They run: {jobs}.", f"In line: {wanted}." if wanted else "")


def _names(loop):
    slow = [task for task in loop.tasks() if task["state"] == "dns" and task.get("waits", 0) >= min(2.0, loop.patience)]
    for line, tasks in _by_line(slow).items():
        took = words.seconds(max(task["waits"] for task in tasks))
        text = f"DNS stall: {_who(tasks)} for a name server, for {took} or longer, at {words.place(line)}."
        yield finding(
            "dns-stall", WARNING, text, "getaddrinfo() in a thread of the default executor has not come back."
        )


def _page(loop):
    if loop.process.about["missing"] & 2:
        yield finding(
            "no-room", WARNING, "There was no room on the tmpfs for snapshots: what tasks wait for is not known."
        )


def _first(task):
    wait = task["wait"] or {}
    return wait["of"][0] if wait.get("kind") == "any" else wait


def _by_line(tasks):
    lines = {}
    for task in tasks:
        lines.setdefault(tuple(task["stack"][-1]) if task["stack"] else (), []).append(task)
    return lines


def _who(tasks):
    if len(tasks) == 1:
        return f"{words.task(tasks[0])} waits"
    return f"{len(tasks)} tasks ({words.task(tasks[0])}, …) wait"


_RULES = (
    _blocked,
    _slow,
    _lost,
    _deadlocks,
    _locks,
    _executors,
    _names,
    _queues,
    _peers,
    _growing,
    _timers,
    _signals,
    _page,
)
