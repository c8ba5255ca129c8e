"""The record as a Perfetto trace, for https://ui.perfetto.dev and ``trace_processor``.

A track per task and one per loop under the process's; steps and sleeps are slices, wake-ups are flows from the step that
woke, or from the timer, descriptor, thread, … that did, to the step that was woken; timers that are set are instants, and
how many were ready is a counter.

The messages and the numbers of their fields are those of Perfetto's ``protos/perfetto/trace/trace_packet.proto`` and
``track_event/*.proto``; a test reads what is written here with the published schema.
"""

from .protobuf import block, fixed64, message, number, text
from .steps import WAKERS, origin, reason, understand

# TrackEvent.Type
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4
#: BuiltinClock: seconds since 1970, the clock of the record, and the one to which a trace converts all others.
_REALTIME, _MONOTONIC, _BOOTTIME = 1, 3, 6
#: Who writes: there is one sequence of packets.
_SEQUENCE = 1


def write(log, file):
    """Write the trace, in bytes."""
    flight = understand(log)
    pid = log.process["pid"]
    process = 1
    tracks = {}

    def put(packet):
        file.write(block(1, packet))

    def describe(track, *fields):
        put(message(block(60, message(number(1, track), *fields)), number(10, _SEQUENCE)))

    # One moment on all clocks: without it the reader cannot place anything. (Time in suspension is not told apart.)
    began = round(log.process["began_monotonic"] * 1e9)
    moment = ((_REALTIME, round(log.process["began"] * 1e9)), (_MONOTONIC, began), (_BOOTTIME, began))
    clocks = (block(1, message(number(1, clock), number(2, at))) for clock, at in moment)
    put(message(block(6, message(*clocks)), number(10, _SEQUENCE)))
    title = log.process["title"]
    describe(process, text(2, title), block(3, message(number(1, pid), text(6, title))))
    slots = sorted({step.slot for step in flight.steps} | {sleep.slot for sleep in flight.sleeps})
    for slot in slots:
        for kind, name in ((None, f"loop {slot}"), ("ready", f"ready, loop {slot}")):
            tracks[slot, kind] = track = process + len(tracks) + 1
            counter = (block(8, b""),) if kind else ()
            describe(track, text(2, name), number(5, process), *counter)
    for slot, kind in sorted({(step.slot, origin(step)) for step in flight.steps if origin(step)}):
        tracks[slot, kind] = track = process + len(tracks) + 1
        describe(track, text(2, f"{WAKERS[kind]}, loop {slot}"), number(5, process))
    for subject in flight.subjects:
        tracks[subject.slot, subject.id] = track = process + len(tracks) + 1
        describe(track, text(2, subject.title), number(5, process))

    def event(at, kind, track, *fields):
        when = message(number(8, round(at * 1e9)), number(58, _MONOTONIC), number(10, _SEQUENCE))
        return at, message(when, block(11, message(number(9, kind), number(11, track), *fields)))

    def note(name, value):
        content = number(4, value) if isinstance(value, int) else text(6, value)
        return block(4, message(text(10, name), content))

    packets = []
    for sleep in flight.sleeps:
        track = tracks[sleep.slot, None]
        packets.append(event(sleep.begins, _BEGIN, track, text(23, "asleep in the operating system")))
        packets.append(event(sleep.ends, _END, track))
    woken = (step for step in flight.steps if step.waker is not None or origin(step))
    flows = {id(step): number_ for number_, step in enumerate(woken, 1)}
    for step in flight.steps:
        track = tracks[step.slot, step.subject.id]
        begun = [fixed64(47, flows[id(woken)]) for woken in step.wakes]
        ended = [fixed64(48, flows[id(step)])] if id(step) in flows else []
        if kind := origin(step):
            begins = fixed64(47, flows[id(step)])
            packets.append(event(step.ready, _INSTANT, tracks[step.slot, kind], text(23, reason(step)), begins))
        notes = [note("why", reason(step)), note("step", step.number)]
        if step.ready is not None:
            notes.append(note("ready for (ns)", round((step.begins - step.ready) * 1e9)))
        packets.append(event(step.begins, _BEGIN, track, text(23, step.subject.name), *notes, *begun, *ended))
        packets.append(event(step.ends, _END, track))
    for timer in flight.timers:
        track = tracks.get((timer.slot, timer.by.subject.id if timer.by else None))
        if track is not None:
            name = f"sets timer {timer.number} for {timer.when - timer.at:.3f} s"
            packets.append(event(timer.at, _INSTANT, track, text(23, name)))
    for at, slot, count in flight.ready:
        if (slot, "ready") in tracks:
            packets.append(event(at, _COUNTER, tracks[slot, "ready"], number(30, count)))
    # In the order of time; what begins and ends at one moment stays in its own.
    for _, packet in sorted(packets, key=lambda pair: pair[0]):
        put(packet)
