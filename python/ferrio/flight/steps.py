"""From records to steps: who ran, why, since when it was ready, and whom it woke."""

from collections import defaultdict, deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Subject:
    """A task, a callback, or a native step of the loop's own."""

    id: int
    slot: int
    name: str
    #: 12 for ``Task-12``; 0 for what has no number.
    number: int
    is_task: bool

    @property
    def title(self):
        return f"{self.name} (Task-{self.number})" if self.number else self.name


@dataclass(slots=True)
class Step:
    """One step."""

    subject: Subject
    slot: int
    number: int
    begins: float
    ends: float
    cause: str
    payload: int
    #: When it was made ready, and if a step did that, when that began; None if that was before the record begins.
    ready: float | None = None
    #: The step that made it ready, if a step did and the record has it.
    waker: "Step | None" = None
    #: The steps that it made ready.
    wakes: list = field(default_factory=list, repr=False)


@dataclass(slots=True)
class Sleep:
    """The loop asked the operating system, and slept."""

    slot: int
    begins: float
    ends: float


@dataclass(slots=True)
class Timer:
    """A timer was set."""

    slot: int
    number: int
    at: float
    when: float
    by: Step | None = None


@dataclass(slots=True)
class Flight:
    """A record, understood. Everything is in the order of time."""

    subjects: list
    steps: list
    sleeps: list
    timers: list
    #: (when, slot, how many are ready from then on), as far as the record tells.
    ready: list


def understand(log):
    """Make steps of a log's records."""
    subjects, steps, sleeps, timers = {}, [], [], []
    woken = defaultdict(deque)
    changes = []
    set_by = []
    last = {}
    for record in sorted(log.records, key=lambda record: record.at):
        key = record.slot, record.subject
        if record.kind == "name":
            # A name is repeated before the ring would lose it, and said again if it has changed.
            known = subjects.setdefault(key, Subject(record.subject, record.slot, "?", 0, False))
            known.name, known.number = record.name or "?", record.number
            known.is_task = bool(record.number) or record.name.endswith(")")
        elif record.kind == "wake":
            woken[key].append(record)
            changes.append((record.at, record.slot, 1))
        elif record.kind == "sleep":
            sleeps.append(Sleep(record.slot, record.at, record.at + record.length))
        elif record.kind == "timer":
            timers.append(Timer(record.slot, record.subject, record.at, record.when))
            set_by.append((record.cause, record.payload))
        elif record.kind == "step":
            subject = subjects.get(key)
            if subject is None:
                subject = subjects[key] = Subject(record.subject, record.slot, f"?{record.subject}", 0, False)
            end = record.at + record.length
            step = Step(subject, record.slot, record.number, record.at, end, record.cause, record.payload)
            # Its own wake-ups, which have the time of its beginning, come before it; they are of steps to come.
            if woken[key] and not _is_cause(step, woken[key][0]):
                step.ready = min(woken[key].popleft().at, step.begins)
                changes.append((step.begins, record.slot, -1))
            # It begins where the last one has ended, at the latest: sums of seconds are rounded.
            before = last.get(record.slot)
            if before is not None:
                before.ends = min(before.ends, step.begins)
            last[record.slot] = step
            steps.append(step)
    _link(steps, timers, set_by)
    return Flight(list(subjects.values()), steps, sleeps, timers, _counted(changes))


def _is_cause(step, wake):
    return wake.cause in ("step", "cancel") and wake.payload & 0xFFFFFFFF == step.number


def _link(steps, timers, set_by):
    """Find the step behind each cause. A cause has a step's whole number, a step the low 32 bits of it."""
    by_number = {(step.slot, step.number): step for step in steps}
    for step in steps:
        if step.cause in ("step", "cancel"):
            step.waker = by_number.get((step.slot, step.payload & 0xFFFFFFFF))
            if step.waker is not None:
                step.waker.wakes.append(step)
    for timer, (cause, payload) in zip(timers, set_by):
        if cause == "step":
            timer.by = by_number.get((timer.slot, payload & 0xFFFFFFFF))


def _counted(changes):
    ready, counts = [], defaultdict(int)
    # What is made ready and begins at one moment was ready before.
    for at, slot, change in sorted(changes, key=lambda change: (change[0], -change[2])):
        counts[slot] += change
        ready.append((at, slot, counts[slot]))
    return ready


#: What ends a wait without a step of the loop: the lines of a picture from which such wake-ups are drawn.
WAKERS = {
    "timer": "timers",
    "descriptor": "descriptors",
    "thread": "other threads",
    "signal": "signals",
    "child": "child processes",
    "outside": "code outside of the loop",
}


def origin(step):
    """Who made a step ready, where no step of the record did: a key of WAKERS, or None (a step before the record)."""
    return step.cause if step.waker is None and step.ready is not None and step.cause in WAKERS else None


def reason(step):
    """Why it ran, in a few words."""
    match step.cause:
        case "step" | "cancel":
            verb = "woken" if step.cause == "step" else "cancelled"
            return f"{verb} by {step.waker.subject.title if step.waker else f'step {step.payload}'}"
        case "timer":
            return f"timer {step.payload} was due"
        case "descriptor":
            fd, writing = divmod(step.payload, 2)
            return f"descriptor {fd} became {'writable' if writing else 'readable'}"
        case "thread":
            return "another thread"
        case "signal":
            return f"signal {step.payload}"
        case "child":
            return f"child {step.payload} ended"
    return "code outside of the loop"
