"""The record as Chrome's trace events (JSON), which many viewers open: https://ui.perfetto.dev, chrome://tracing, speedscope.

A row per task and one per loop; wake-ups are flow events from the step that woke, or from the timer, descriptor, thread, …
that did, to the step that was woken.
"""

import json

from .steps import WAKERS, origin, reason, understand


def write(log, file):
    """Write the trace as UTF-8 text."""
    flight = understand(log)
    pid = log.process["pid"]
    begun = log.process["began_monotonic"]

    def micros(moment):
        return round((moment - begun) * 1e6, 3)

    events = [_meta(pid, 0, "process_name", log.process["title"])]
    rows = {}
    for slot in sorted({step.slot for step in flight.steps} | {sleep.slot for sleep in flight.sleeps}):
        rows[slot, None] = len(rows) + 1
        events.append(_meta(pid, rows[slot, None], "thread_name", f"loop {slot}"))
    for subject in flight.subjects:
        rows[subject.slot, subject.id] = len(rows) + 1
        events.append(_meta(pid, rows[subject.slot, subject.id], "thread_name", subject.title))

    for slot, kind in sorted({(step.slot, origin(step)) for step in flight.steps if origin(step)}):
        rows[slot, kind] = len(rows) + 1
        events.append(_meta(pid, rows[slot, kind], "thread_name", f"{WAKERS[kind]}, loop {slot}"))

    def slice_of(row, name, begins, ends, **known):
        length = round((ends - begins) * 1e6, 3)
        return {"ph": "X", "pid": pid, "tid": row, "name": name, "ts": micros(begins), "dur": length, "args": known}

    def flow(phase, number, row, at):
        ends = {"bp": "e"} if phase == "f" else {}
        return {
            "ph": phase,
            "id": number,
            "pid": pid,
            "tid": row,
            "name": "wake",
            "cat": "wake",
            "ts": micros(at),
            **ends,
        }

    for sleep in flight.sleeps:
        events.append(slice_of(rows[sleep.slot, None], "asleep in the operating system", sleep.begins, sleep.ends))
    for number, step in enumerate(flight.steps, 1):
        row = rows[step.slot, step.subject.id]
        waited = {} if step.ready is None else {"ready for (µs)": round((step.begins - step.ready) * 1e6, 3)}
        why = reason(step)
        events.append(slice_of(row, step.subject.name, step.begins, step.ends, why=why, step=step.number, **waited))
        if step.waker is not None:
            events.append(flow("s", number, rows[step.slot, step.waker.subject.id], step.waker.begins))
            events.append(flow("f", number, row, step.begins))
        elif kind := origin(step):
            # A flow begins within a slice.
            events.append(slice_of(rows[step.slot, kind], why, step.ready, step.ready))
            events.append(flow("s", number, rows[step.slot, kind], step.ready))
            events.append(flow("f", number, row, step.begins))
    for at, slot, count in flight.ready:
        events.append(
            {"ph": "C", "pid": pid, "name": f"ready, loop {slot}", "ts": micros(at), "args": {"ready": count}}
        )
    json.dump({"traceEvents": events, "displayTimeUnit": "ns"}, file, separators=(",", ":"))


def _meta(pid, row, what, name):
    return {"ph": "M", "pid": pid, "tid": row, "name": what, "args": {"name": name}}
