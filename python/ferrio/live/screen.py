"""What ``ferrio top`` shows, as lines of text: no more than fit."""

import collections
import textwrap
import time

from . import words

_HELP = """\
t  tasks: what they wait for, in groups of the same coroutine at the same line
s  sockets and other descriptors: peers, bytes that nobody has read, buffers
i  timers and what is ready to run, by what they call
e  executors: threads, what they run, what waits in line
q  quit

busy    the share of the time in which the loop did not sleep
late    how late timers went off, in the last minute or so
`ferrio why PID` tells what each task waits for, and who could end that.
`ferrio level PID flight` makes the causes of wake-ups show here."""

_VIEWS = {"t": "tasks", "s": "sockets", "i": "timers", "e": "executors", "?": "help"}


def listing(found, width):
    """The processes."""
    lines = [f"{'PID':>7}  {'STATE':8} {'LOOPS':>5} {'TASKS':>7} {'UP':>12}  PROGRAM"]
    for one in found:
        loops = f"{one['loops']}+{one['unwatched']}" if one["unwatched"] else one["loops"]
        tasks = "?" if one["tasks"] is None else f"{one['tasks']:,}"
        line = f"{one['pid']:>7}  {one['state']:8} {loops:>5} {tasks:>7} {words.seconds(one['up']):>12}  {one['title']}"
        lines.append(line[:width])
    if not found:
        lines.append("No process of yours has a loop of ferrio's.")
    return lines


def page(look, view, width, height):
    """One process. ``height`` None: as many lines as there are."""
    lines = list(_head(look))
    for one in look.loops:
        snapshot = look.snapshots[one["slot"]]
        for line in _figures(look, one, snapshot):
            lines += textwrap.wrap(line, width, subsequent_indent="    ")
        if view == "?":
            lines += ["", *_HELP.splitlines()]
        elif snapshot is None:
            lines.append(f"  {words.no_snapshot(look.process, one)}")
        else:
            lines += ["", *_BODIES[view](snapshot, width)]
    if not look.loops:
        lines.append("No loop is running.")
    if look.process.about["unwatched"]:
        lines.append(words.unwatched(look.process.about["unwatched"]))
    if height is not None:
        keys = "  ".join(f"[{key}]{name[1:]}" if name[0] == key else f"[{key}] {name}" for key, name in _VIEWS.items())
        lines = lines[: height - 1] + [""] * (height - 1 - len(lines)) + [f"{keys}  [q]uit"]
    return [line[:width] for line in lines]


def _head(look):
    process = look.process
    state = "" if process.is_alive else " GONE"
    state = " STOPPED" if process.is_stopped else state
    up = time.monotonic() - process.about["began_monotonic"]
    level = process.about["level"]
    yield f"{process.pid}{state} · {process.runtime} · up {words.seconds(up)} · level {level} · {process.title}"


def _figures(look, one, snapshot):
    busy, steps, turns = look.busy(one), look.rate(one, "steps"), look.rate(one, "turns")
    rates = f"busy {busy:.0%} · {steps:,.0f} steps/s · {turns:,.0f} turns/s" if busy is not None else one["state"]
    late = one["late"]
    if late["buckets"]:
        rates += f" · late p50 {words.seconds(_quantile(late, 0.5))} p99 {words.seconds(_quantile(late, 0.99))} max {words.seconds(late['longest'])}"
    lines = [f"loop {one['number']} {one['state']} · {rates}"]
    if snapshot:
        descriptors = snapshot["descriptors"]
        full = sum(1 for about in descriptors["described"] if about.get("full"))
        unread = sum(about.get("unread", 0) for about in descriptors["described"])
        line = f"  ready {snapshot['ready']['count']:,} · tasks {snapshot['tasks']['count']:,} · timers {snapshot['timers']['count']:,} · descriptors {descriptors['count']:,}"
        line += f" ({full} with full write buffers)" if full else ""
        line += f" · unread {words.size(unread)}" if unread else ""
        for executor in snapshot["executors"]:
            line += f" · executor {executor['busy']}/{executor['most']}"
            line += f" + {executor['queued']:,} queued" if executor["queued"] else ""
        line += f" · errors {snapshot['errors']}" if snapshot["errors"] else ""
        lines.append(line)
        if one["slot"] in look.silent or not look.process.is_alive or look.process.is_stopped:
            lines.append(
                f"  THE LOOP DOES NOT ANSWER: this is as of {words.seconds(snapshot['age'])} ago (`ferrio doctor {look.process.pid}` says why)"
            )
    if one["slow_turns"]:
        ago = words.seconds(time.monotonic() - one["longest_turn_at"])
        lines.append(
            f"  {words.count(one['slow_turns'], 'turn')} of 0.1 s or more; the longest took {words.seconds(one['longest_turn'])}, {ago} ago"
        )
    causes = collections.Counter(
        record[7] for record in look.records if record[0] == "wake" and record[1] == one["slot"]
    )
    if causes:
        total = sum(causes.values())
        lines.append(
            "  woken by: " + " · ".join(f"{cause} {count / total:.0%}" for cause, count in causes.most_common(6))
        )
    return lines


def _quantile(times, share):
    wanted, seen = share * sum(count for _, count in times["buckets"]), 0
    for end, count in times["buckets"]:
        seen += count
        if seen >= wanted:
            return min(end, times["longest"])
    return times["longest"]


def _tasks(snapshot, width):
    states = sorted(snapshot["tasks"]["states"].items(), key=lambda item: -item[1])
    counts = " · ".join(f"{count:,} {state}" for state, count in states)
    lines = textwrap.wrap(counts, width, initial_indent="  ", subsequent_indent="  ")
    if more := words.uncounted(snapshot["tasks"]):
        lines.append(f"  {more}")
    lines.append(f"{'TASKS':>8}  {'STATE':13} COROUTINE, AND THE LINE IT WAITS AT")
    for group in snapshot["tasks"]["groups"]:
        line = group["line"]
        at = f"  {words.short_path(line[0])}:{line[1]}" if line else ""
        lines.append(f"{group['count']:>8,}  {group['state']:13} {group['coro'].rpartition('<locals>.')[2]}(){at}")
    return lines


def _sockets(snapshot, width):
    lines = [f"{'FD':>6}  {'WATCHED':11} {'PEER':28} {'UNREAD':>8} {'UNSENT':>8} {'BUFFER':>8}  OWNER"]
    for about in sorted(
        snapshot["descriptors"]["described"], key=lambda one: -(one.get("buffered", 0) + one.get("unread", 0))
    ):
        peer = about.get("peer") or (f"listens {about['own']}" if about.get("own") else "")
        sizes = [words.size(about[name]) if about.get(name) else "-" for name in ("unread", "unsent", "buffered")]
        watched = "+".join(about["watched"]) or "-"
        lines.append(
            f"{about['fd']:>6}  {watched:11} {peer:28} {sizes[0]:>8} {sizes[1]:>8} {sizes[2]:>8}  {about['owner']}"
        )
    return lines


def _timers(snapshot, width):
    lines = [f"{'TIMERS':>8}  {'NEXT':>10}  CALL"]
    for kind in snapshot["timers"]["kinds"]:
        lines.append(f"{kind['count']:>8,}  {words.seconds(kind['next']):>10}  {words.called(kind['calls'])}")
    lines += ["", f"{'READY':>8}  {'':10}  CALL"]
    return lines + [
        f"{kind['count']:>8,}  {'':10}  {words.called(kind['calls'])}" for kind in snapshot["ready"]["kinds"]
    ]


def _executors(snapshot, width):
    lines = []
    for executor in snapshot["executors"]:
        lines.append(
            f"{executor['name']}: {executor['threads']} threads of {executor['most']}, {executor['busy']} busy, {executor['queued']:,} calls in line"
        )
        lines += [f"{count:>8,}  {words.called(name)}" for count, *name in executor["jobs"]]
    return lines or ["No executor has been used."]


_BODIES = {"t": _tasks, "s": _sockets, "i": _timers, "e": _executors}
