"""The wording of what a run comes to: mistakes, and the bill. With it what every sentence needs: names, lines, durations."""

from .places import call_in, shorten


def span(seconds):
    """A duration in words: "2 s", "12.5 ms", "40 µs"."""
    if seconds >= 1:
        return f"{_tidy(seconds, 3)} s"
    if seconds >= 0.001:
        return f"{_tidy(seconds * 1e3, 1 if seconds >= 0.1 else 2)} ms"
    if seconds <= 0:
        return "0 s"
    return f"{round(seconds * 1e6)} µs" if seconds >= 0.5e-6 else f"{max(1, round(seconds * 1e9))} ns"


def _tidy(number, digits):
    text = f"{number:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def enumerate_(words, last="and"):
    """ "a, b and c" """
    words = list(words)
    if len(words) > 6:
        words = [*words[:5], f"{len(words) - 5} more"]
    if len(words) == 1:
        return words[0]
    comma = "," if any("," in word for word in words) else ""
    return f"{', '.join(words[:-1])}{comma} {last} {words[-1]}"


def has_or_have(tasks):
    """The verb after so many names."""
    return "has" if len(tasks) == 1 else "have"


class Reckoning:
    """Words mistakes and the bill. It knows what it has said before: what needs explaining is explained once."""

    def __init__(self):
        self._said = set()
        self._names = {}
        self._cancelled = set()  # numbers of tasks that have ended so
        self._failed = set()
        self._main = None
        self._virtual = False

    def begin(self, head):
        self._main = next(iter(head.get("sources") or ()), None)
        self._virtual = head["clock"] == "virtual"

    def _once(self, what):
        new = what not in self._said
        self._said.add(what)
        return new

    def _line(self, place):
        """ "line 5", with the file's name if it is not the program's own (or the first of a module's)."""
        file = self._main = self._main or place["file"]
        return f"line {place['line']}" if place["file"] == file else f"{place['file']} line {place['line']}"

    def _all(self, tasks):
        return enumerate_([self._names.get(task, "a task") for task in tasks]) if tasks else "nobody"

    # --- mistakes ----------------------------------------------------------------------------------------------------

    def _mistake(self, event):
        return getattr(self, f"_mistake_{event['kind'].replace('-', '_')}")(event)

    def _mistake_blocked(self, event):
        name = event.get("name", "A callback")
        call, cost = event.get("call"), span(event["cost"])
        if call:
            where = f"`{shorten(event['code'])}` at {self._line(event)}" if "line" in event else call
            what = f"{where} kept the only thread for {span(event.get('part', event['cost']))}"
            if "part" in event:
                what += f" of the {cost} that it ran without an await"
        elif "line" in event and event.get("until"):
            until = event["until"]
            lines = f"{self._line(event)}" + (f" to {until}" if until != event["line"] else "")
            what = f"its code from {lines} ran {cost} without an await"
        elif "line" in event:
            what = f"its code from {self._line(event)} on ran {cost} without an await"
        else:
            what = f"it ran {cost} without an await"
        victims = event["victims"]
        nobody = f"{self._all(victims)} had to wait for it." if victims else "Nobody was ready, this time."
        told = f"{name} blocks the loop: {what}. The loop could do nothing else meanwhile. {nobody}"
        if self._once("blocked"):
            if call == "time.sleep":
                told += " `await asyncio.sleep(…)` waits without blocking."
            else:
                told += " asyncio.to_thread() runs what takes long in a thread of its own."
        return told

    def _mistake_never_awaited(self, event):
        what = event["what"]
        at = f"{self._line(event)}, `{shorten(event['code'])}`, " if "line" in event else "The call "
        told = f"{what}() never runs: {at}only makes a coroutine object, and nobody awaits it."
        if self._once("never-awaited"):
            call = call_in(event.get("code", ""), what) or what
            told += f" Write `await {call}(…)`, or make it a task with asyncio.create_task()."
        return told

    def _mistake_unkept_task(self, event):
        if event.get("lost"):
            return (
                f"{event['name']} is gone before it has finished: nobody kept it, nothing in the loop could reach it, "
                "and Python has thrown it away."
            )
        return (
            f"{event['name']} is kept by nobody: {self._line(event)} throws the task away, and the loop itself keeps only what "
            "is about to run. Such a task can vanish before it has finished. Keep it in a variable or a set, or use a TaskGroup."
        )

    def _mistake_never_retrieved(self, event):
        name = event.get("name", "A future")
        at = f" at {self._line(event)}" if "line" in event else ""
        return (
            f"{name} has failed with {event['value']}{at}, and nobody has ever asked for its result: the error would have "
            "passed unseen. Await the task."
        )

    def _mistake_pending_at_exit(self, event):
        names = self._all(event["victims"])
        if event.get("cancelled"):
            return f"{names} had not finished when the main task was: asyncio.run() waits for no other task, and cancels it."
        have = has_or_have(event["victims"])
        return f"{names} {have} not finished, and the loop is closed: what is left of it will never run."

    # --- the bill ----------------------------------------------------------------------------------------------------

    def _bill(self, event):
        virtual = self._virtual
        lines = []
        what = "virtual time" if virtual else "of your life"
        ends = {"KeyboardInterrupt": ", ended by Ctrl-C", None: ""}.get(event.get("error"), "")
        lines.append(f"THE BILL  {span(event['elapsed'])} {what}{ends}")
        if not virtual and event["ran"]:
            most = sorted(event["ran"].items(), key=lambda item: -item[1])
            parts = [f"{self._names.get(task, 'task')} {span(seconds)}" for task, seconds in most[:6]]
            if len(most) > 6:
                parts.append(f"{len(most) - 6} more {span(sum(seconds for _, seconds in most[6:]))}")
            lines.append(f"your Python ran {span(event['python'])}: {' · '.join(parts)}")
        if event["asleep"]:
            share = f" ({event['asleep'] / event['elapsed']:.1%})" if event["elapsed"] else ""
            times = event["wakes"]
            lines.append(
                f"asleep in the operating system {span(event['asleep'])}{'' if virtual else share}, "
                f"woken {'once' if times == 1 else 'twice' if times == 2 else f'{times} times'}"
            )
        if event["one_by_one"] and event["one_by_one"] > 1.05 * event["elapsed"]:
            lines.append(
                f"one after the other, all this would have taken {span(event['one_by_one'])}; "
                f"side by side it took {span(event['elapsed'])}"
            )
        if "loop" not in self._said:
            lines.append("no event loop of ferrio's was made, so there was nothing to tell")
        chains = event["chains"]
        if chains:
            lines.append("WHO WOKE WHOM")
            lines += [self._chain(chain) for chain in chains]
            if event["more_chains"]:
                lines.append(f"… and {event['more_chains']:,} more")
        return "\n".join(lines)

    def _chain(self, chain):
        words = []
        for link in chain:
            if isinstance(link, int):
                words.append(self._names.get(link, "a task"))
            elif link == "end":
                words.append("the end")
            else:
                words.append(self._link(link))
        return " → ".join(words)

    @staticmethod
    def _link(cause):
        match cause["kind"]:
            case "timer":
                after = f" ({span(cause['in'])})" if cause.get("in") else ""
                return f"timer {cause['timer']}{after}"
            case "socket":
                if "child" in cause:
                    return f"child process {cause['child']}"
                return f"{'pipe' if 'pipe' in cause else 'socket'} {cause['fd']}"
            case "thread":
                return "a thread"
            case "child":
                return f"child process {cause['pid']}"
            case "signal":
                return f"signal {cause['number']}"
            case "callback":
                return f"{cause['what']}()"
        return "outside"
