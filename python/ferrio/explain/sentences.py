"""The wording of a story: from an event to its sentence. Mistakes and the bill are worded in `reckoning.py`; together they
are everything that a reader reads, so that it can be translated.

A sentence begins with its subject, a task's name or "The loop", and is in the present tense.
"""

from .places import shorten
from .reckoning import Reckoning, enumerate_, span

#: The names under which asyncio's inner callbacks are known, and why there are such.
_WHY = {
    "_set_result_unless_cancelled": "a timer's callback: it finishes the future that sleep() waits on",
    "_run_until_complete_cb": "it stops the loop when the main task has finished",
    "Gathering._done_callback": "gather counts which of its tasks have finished",
    "gather.<locals>._done_callback": "gather counts which of its tasks have finished",
    "TaskGroup._on_task_done": "the task group counts which of its tasks have finished",
    "_release_waiter": "wait_for() hears that the time is over, or that what it waits for has finished",
    "_on_timeout": "the time of a timeout() is over: it cancels its task",
    "Timeout._on_timeout": "the time of a timeout() is over: it cancels its task",
    "Timeout": "the time of a timeout() is over: it cancels its task",
    "_chain_future.<locals>._set_state": "a thread has finished: its result goes to the future on this side",
    "_chain_future.<locals>._call_check_cancel": "if the future on this side is cancelled, so is the thread's",
    "StreamTransport": "a connection's transport moves bytes between the socket and the stream",
    "Listener": "a server's socket has a connection to accept",
    "SubprocessTransport": "a child process has started, ended or closed a pipe",
    "Waiting": "the time of a wait() or wait_for() is over",
    "Awaitable": "a native operation that a task awaits goes on",
    "WakeOnCall": "a native operation hears that a future it waits for has finished",
    "_CallbackEnded": "the server hears that a connection's task has ended",
    "EventLoop._let_clock_go": "a thread has finished: virtual time may go on",
}

#: Whoever will wake a task that waits for this.
_WAKERS = {
    "queue-get": "by whoever puts something in",
    "queue-put": "by whoever takes something out",
    "queue-join": "by the last task_done()",
    "semaphore": "by whoever releases a place",
    "event": "by whoever sets it",
    "condition": "by whoever notifies the condition",
    "barrier": "by the last to come",
}

#: The same, for what asyncio does in several steps of its own.
_ERRANDS = {
    "the server": "when the server is set up",
    "the connection": "when the connection is there",
    "the child process": "when the child process has been started",
    "the end of the connection": "when the connection is closed",
    "the next to finish": "by the next of its tasks to finish",
}


class Sentences(Reckoning):
    """Makes sentences. It knows what it has said before: what needs explaining is explained once."""

    def headline(self, head):
        lines = [
            f"{head['program']}: one thread, one loop. Only one line of Python runs at a time; here is which, and why."
        ]
        if head["clock"] == "virtual":
            lines.append("--fast: the clock is virtual. Waiting is skipped, and running counts as no time.")
        return "\n".join(lines)

    def of(self, event, names):
        self._names = names
        return getattr(self, f"_{event['event']}")(event)

    def why(self, callback):
        return _WHY.get(callback) or _WHY.get(callback.rpartition(".")[2], "one of asyncio's own")

    def folded(self, count):
        return f"… {count:,} more like these"

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _loop(self, event):
        if event["what"] == "closed":
            return "The loop is closed."
        return "The loop is made. It has nothing to do yet." if self._once("loop") else "The loop is made: a new one."

    def _asleep(self, event):
        until, watches = event["until"], event["watches"]
        words = []
        if until is not None:
            words.append(f"when {self._timer(until)}")
        plain = [
            watch
            for watch in watches
            if watch["direction"] == "read" and not watch.keys() & {"listens", "for", "callback"}
        ]
        if len(plain) > 1:
            words.append(
                f"when there are bytes to read at {enumerate_([self._descriptor(watch) for watch in plain], 'or')}"
            )
            watches = [watch for watch in watches if watch not in plain]
        for watch in watches:
            words.append(f"when {self._watch(watch)}")
        if event.get("threads"):
            words.append(f"when the thread that runs {enumerate_(event['threads'], 'or')} has finished")
        if event.get("processes"):
            words.append(f"when another process has run {enumerate_(event['processes'], 'or')}")
        words += [f"when child process {pid} has ended" for pid in event.get("children", ())]
        if not words:
            return "The loop has nobody ready, no timer and no socket. Only a signal (Ctrl-C) or another thread can wake it now."
        first = self._once("asleep")
        begin = "The loop has nobody ready"
        if len(words) == 1 and not first:
            return f"{begin}: it sleeps until {words[0].removeprefix('when ')}."
        told = f"{begin}. It asks the operating system to wake it {enumerate_(words, 'or')}."
        if first:
            told += " Until then no Python runs, and no CPU is used."
        return told

    @staticmethod
    def _timer(until):
        timer = f"timer {until['timer']}" if until["timer"] is not None else "a timer"
        return f"{timer}{' (a timeout)' if until.get('limit') else ''} is due, in {span(until['in'])}"

    def _watch(self, watch):
        if watch.get("listens"):
            return f"a client connects to {watch['listens']}"
        what = self._descriptor(watch)
        if watch.get("for"):
            return f"{what} is connected"
        return f"{what} {'has bytes to read' if watch['direction'] == 'read' else 'has room again'}"

    @staticmethod
    def _descriptor(watch):
        peer = f" ({watch['peer']})" if watch.get("peer") else ""
        return f"{'pipe' if watch.get('pipe') else 'socket'} {watch['fd']}{peer}"

    def _awake(self, event):
        timers = [cause["timer"] for cause in event["by"] if cause["kind"] == "timer" and cause["timer"]]
        if len(timers) > 1:
            late = [cause["late"] for cause in event["by"] if cause.get("late")]
            words = [f"timers {enumerate_(map(str, timers))} are due{f' ({span(max(late))} late)' if late else ''}"]
            words += [self._news(cause) for cause in event["by"] if cause["kind"] != "timer"]
        else:
            words = [self._news(cause) for cause in event["by"]]
        slept = f" after {span(event['slept'])}" if event["slept"] else ""
        return f"The loop wakes{slept}: {enumerate_(words)}." if words else f"The loop wakes{slept}."

    def _news(self, cause):
        match cause["kind"]:
            case "timer":
                late = f" ({span(cause['late'])} late)" if cause.get("late") else ""
                number = f"timer {cause['timer']}" if cause["timer"] is not None else "a timer"
                return f"{number} is due{late}"
            case "socket":
                return self._socket_news(cause)
            case "thread":
                if "process" in cause:
                    return f"another process has run {cause['job']}"
                return (
                    f"the thread that ran {cause['job']} has finished"
                    if "job" in cause
                    else "another thread has called"
                )
            case "signal":
                return f"signal {cause['number']} has come"
            case "child":
                return f"child process {cause['pid']} has ended"
        return "something has happened outside"

    def _socket_news(self, cause):
        if cause.get("child"):
            return f"child process {cause['child']} has ended"
        if cause.get("listens"):
            return f"a client has connected to {cause['listens']}"
        what = f"{'pipe' if cause.get('pipe') else 'socket'} {cause['fd']}"
        if cause.get("for"):
            return f"{what} has its connection"
        if cause["direction"] == "write":
            return f"{what} has room again"
        size = cause.get("bytes")
        news = f"{what} has {'news' if size is None else 'nothing more to come' if size == 0 else self._bytes(size)}"
        if "arrived" in cause and self._once("kernel"):
            news += (
                f". Who knew? The kernel: they reached this machine at {self._moment(cause['arrived'])}, it marked the socket "
                f"readable, and {span(cause['age'])} later the loop had heard"
            )
        elif "arrived" in cause:
            news += f", which reached this machine {span(cause['age'])} ago"
        return news

    @staticmethod
    def _moment(seconds):
        return f"{seconds * 1e3:.2f} ms"

    @staticmethod
    def _bytes(size):
        return "1 byte" if size == 1 else f"{size:,} bytes"

    # --- tasks -------------------------------------------------------------------------------------------------------

    def _queued(self, event):
        name = event["name"]
        by = event["by"].get("task")
        call = event.get("call")
        who = self._names.get(by) if by else None
        cause = event.get("because") or {"kind": "outside"}
        if event.get("eager"):
            once = ": it begins at once, and has not been in the ready queue" if self._once("eager") else ""
            return f"{name} is made an eager task{f' while {who} runs' if who else ''}{once}."
        if "line" not in event:
            match cause["kind"]:
                case "socket" if "listens" in cause:
                    why = "a client has connected, and the server makes a task for it"
                case "generator":
                    why = "an async generator was left before its end, and the loop closes it"
                case _:
                    why = "the loop makes it a task"
            return f"{name} is made a task in {who}." if who else f"{name} is born: {why}."
        at = self._line(event)
        maker = f" by {call}()," if call else ""
        told = f"{name} is made a task{maker} {f'in {who}, ' if who else ''}{'' if maker or who else 'at '}{at}"
        if cause["kind"] in {"timer", "socket", "signal"}:
            told += f", because {self._news(cause)}"
        if self._once("queued"):
            told += ", and put into the ready queue. None of its code has run yet"
        return f"{told}."

    def _start(self, event):
        at = f" at {self._line(event)}" if "line" in event else ""
        waited = f" It stood {span(event['waited'])} in the ready queue." if event["waited"] else ""
        if event.get("raises"):
            return f"{event['name']} gets its {event['raises']} before it has started{at}.{waited}"
        return f"{event['name']} starts{at}.{waited}"

    def _pause(self, event):
        name, wait = event["name"], event["waits"]
        at = self._at(event)
        if wait["kind"] == "turn":
            told = f"{name} {at}lets the others go first: it is put at the end of the ready queue."
        else:
            told = f"{name} {at}{self._gives_back(wait)} It will be woken {self._wakes(wait)}."
        if event["ran"]:
            told += f" It ran {span(event['ran'])}."
        return told

    def _where(self, event):
        """ "line 5 in brew()": the function only where it is not the task's own."""
        within = event.get("within")
        return self._line(event) + (f" in {within[-1]['function']}()" if within else "")

    def _at(self, event):
        return f"at {self._where(event)}, `{shorten(event['code'])}`: " if "line" in event else ""

    def _gives_back(self, wait):
        state = self._state(wait)
        gives = "gives the thread back."
        return f"{state}, so it {gives}" if state else gives

    def _state(self, wait):
        """Why it cannot go on."""
        match wait["kind"]:
            case "any":
                return self._state(wait["of"][0])
            case "queue-get":
                return "the queue is empty"
            case "queue-put":
                return "the queue is full"
            case "queue-join":
                return "not everything in the queue is done"
            case "lock":
                holder = self._names.get(wait["holder"])
                if wait.get("finished"):
                    return f"{holder or 'a task'} has finished without releasing the lock"
                return f"{holder} has the lock" if holder else "the lock is taken"
            case "semaphore":
                return "no place is free"
            case "event":
                return "the event is not set"
            case "barrier":
                return "not all have come to the barrier"
            case "socket":
                if wait.get("for"):
                    return "there is no connection yet"
                return "no bytes are there yet" if wait["direction"] == "read" else "the peer takes no more now"
            case "gather" if wait["of"] > max(1, wait["done"]):
                return "the results are not there yet"
            case "task":
                return f"{self._have(wait)} not finished"
        return None

    def _have(self, wait):
        """ "a, b and 2 futures have": what is waited for, and the verb."""
        words = [self._names.get(task, "a task") for task in wait["tasks"]]
        futures = wait.get("futures", 0)
        if futures:
            words.append("a future" if futures == 1 else f"{futures} futures")
        return f"{enumerate_(words)} {'have' if len(words) > 1 or futures > 1 else 'has'}"

    def _wakes(self, wait):
        """By whom or when it will be woken."""
        match wait["kind"]:
            case "any":
                return enumerate_([self._wakes(each) for each in wait["of"]], "or")
            case "timer":
                number = "a timer" if wait["timer"] is None else f"timer {wait['timer']}"
                return f"by {number}{' (the timeout)' if wait.get('limit') else ''}, in {span(wait['in'])}"
            case "task":
                have = self._have(wait)
                if wait.get("group"):
                    return f"by the task group, when {have} finished"
                if len(wait["tasks"]) + wait.get("futures", 0) > 1 and wait.get("wait"):
                    match wait["until"]:
                        case "FIRST_COMPLETED":
                            return "by asyncio.wait, when one of them has finished"
                        case "FIRST_EXCEPTION":
                            return "by asyncio.wait, when one of them has failed or all have finished"
                    return "by asyncio.wait, when all of them have finished"
                return f"when {have} finished"
            case "gather":
                done = f" ({wait['done']} of {wait['of']} so far)" if wait["done"] else ""
                return f"by gather, when {self._have(wait)} finished{done}"
            case "socket":
                peer = f" ({wait['peer']})" if wait.get("peer") else ""
                if wait.get("for"):
                    return f"by socket {wait['fd']}{peer}, when the peer has answered"
                what = "pipe" if wait.get("pipe") else "socket"
                when = "when bytes arrive" if wait["direction"] == "read" else "when there is room again"
                return f"by {what} {wait['fd']}{peer}, {when}"
            case "thread":
                if wait.get("process"):
                    return f"when another process has run {wait['job']}"
                return f"when the thread that runs {wait['job']} has finished"
            case "child":
                return f"when child process {wait['pid']} has ended"
            case "lock":
                holder = self._names.get(wait["holder"])
                if wait.get("finished"):
                    return "when somebody else releases it"
                return f"when {holder} releases it" if holder else "when it is released"
            case "nobody":
                return f"by nobody, for {wait['on']} goes on until it is closed or cancelled"
            case "future" if wait["on"] in _ERRANDS:
                return _ERRANDS[wait["on"]]
        return _WAKERS.get(wait["kind"], "by whoever finishes the future that it awaits")

    def _ready(self, event):
        return f"{event['name']} is ready again: {self._because(event)}."

    def merged(self, names):
        """What follows a sentence that has said the cause."""
        return f"So {enumerate_(names)} {'is' if len(names) == 1 else 'are'} ready again."

    def _because(self, event):
        cause, wait = event["because"], event["waits"] or {"kind": "future"}
        main = wait["of"][0] if wait["kind"] == "any" else wait
        match cause["kind"]:
            case "cancel":
                who = self._names.get(cause.get("task"))
                return f"{who} cancels it" if who else "its time is over" if cause.get("timer") else "it is cancelled"
            case "timer":
                return f"timer {cause['timer']} was its {'timeout' if cause.get('limit') else 'own'}"
            case "socket":
                if main.get("for"):
                    return "the connection is there"
                if main["kind"] == "child":
                    return f"child process {main['pid']} has ended"
                return f"{'pipe' if cause.get('pipe') else 'socket'} {cause['fd']} has what it waited for"
            case "thread":
                if main.get("process"):
                    return f"another process has run {main['job']}"
                return (
                    f"the thread has returned from {main['job']}" if main["kind"] == "thread" else "a thread has called"
                )
            case "child":
                return f"child process {cause['pid']} has ended"
            case "signal":
                return f"signal {cause['number']} has come"
            case "task":
                return self._because_of(self._names.get(cause["task"], "a task"), main, event)
            case "callback":
                return self._because_of(f"{cause['what']}()", main, event)
        return "what it waited for is there"

    def _because_of(self, who, wait, event):
        at = f" ({self._line(event)})" if "line" in event else ""
        raises = event.get("raises")
        match wait["kind"]:
            case "gather":
                if raises:
                    return f"gather hands on the {raises} of {who}"
                return "gather has all it waited for" if wait["of"] > 1 else "gather has its result"
            case "task":
                if wait.get("group") and len(wait["tasks"]) > 1:
                    return "the task group is complete"
                if raises == "CancelledError" or event["because"].get("task") in self._cancelled:
                    return f"{who} has ended, cancelled"
                if raises or event["because"].get("task") in self._failed:
                    return f"{who} has failed{f' with {raises}' if raises else ''}"
                return f"{who} has finished"
            case "queue-get":
                return f"{who} has put something into the queue{at}"
            case "queue-put":
                return f"{who} has taken something out of the queue{at}"
            case "queue-join":
                return f"{who} has done the last thing in the queue{at}"
            case "lock":
                return f"{who} has released the lock{at}"
            case "semaphore":
                return f"{who} has released a place{at}"
            case "event":
                return f"{who} has set the event{at}"
            case "condition":
                return f"{who} has notified the condition{at}"
            case "barrier":
                return f"{who} was the last to come to the barrier{at}"
            case "future":
                return f"{who} has finished the future{at}"
        return f"{who} has done what it waited for{at}"

    def _resume(self, event):
        name = event["name"]
        waited = f" It stood {span(event['waited'])} in the ready queue." if event["waited"] else ""
        if "line" not in event:
            return f"{name} goes on.{waited}"
        if event.get("inside"):
            return f"{name} goes on inside of `{shorten(event['code'])}` ({self._where(event)}), which is not over.{waited}"
        raises = event.get("raises")
        then = f"where the await raises {raises}" if raises else "after the await"
        return f"{name} goes on at {self._where(event)}, {then}.{waited}"

    def _finish(self, event):
        name = event["name"]
        match event["outcome"]:
            case "returned":
                end = f"{name} has finished" + (f" and returned {event['value']}" if event["value"] != "None" else "")
            case "raised":
                end = f"{name} has failed with {event['value']}"
                self._failed.add(event["task"])
            case _:
                end = f"{name} is cancelled and has ended"
                self._cancelled.add(event["task"])
        told = [f"{end}."]
        gather = event.get("gather")
        words = []
        for who in event["tells"]:
            if who == "gather" and gather:
                words.append(f"gather ({gather['done']} of {gather['of']})")
            elif who == "asyncio.run":
                told += [] if event.get("inner") else ["That was the main task: the loop stops."]
            elif isinstance(who, int):
                words.append(f"{self._names.get(who, 'a task')}, which awaits it")
            else:
                words.append(who)
        if words:
            told.append(f"It tells {enumerate_(dict.fromkeys(words))}.")
        return " ".join(told)

    def _cancel(self, event):
        by, at, name = event["by"], event.get("at"), event["name"]
        where = f" ({self._line(at)})" if at else ""
        if by.get("task") == event["task"]:
            who = "it has asked itself to end"
        elif by.get("task"):
            who = f"{self._names.get(by['task'])}{where} asks it to end"
        elif by.get("timer"):
            who = f"timer {by['timer']}, its timeout, is due"
        elif by.get("group"):
            failed = self._names.get(by.get("because_of"))
            who = f"its task group ends, because {failed} has failed" if failed else "its task group ends"
        else:
            who = "it is asked to end"
        match event.get("when"):
            case "ready":
                return f"{name} is cancelled: it was asked to end while it was in the ready queue."
            case "running":
                return f"{name} is cancelled: {who}. It will see a CancelledError at the await where it gives the thread back."
        first = self._once("cancel")
        then = ", and will see a CancelledError at the await where it stands" if first else ""
        return f"{name} is cancelled: {who}. So it is ready again{then}."

    def _callback(self, event):
        if event["inner"]:
            return f"The loop runs {event['what']}: {event['why']}."
        cause, at = event["because"], f" at {self._line(event)}" if "line" in event else ""
        match cause["kind"]:
            case "timer":
                why = f"timer {cause['timer']}, set{at}, is due" if at else f"timer {cause['timer']} is due"
            case "socket":
                why = f"{self._socket_news(cause)}"
            case "signal":
                why = f"signal {cause['number']} has come"
            case "thread":
                why = "another thread has asked for it"
            case "task" if event["why"] == "add_done_callback":
                why = f"{self._names.get(cause['task'], 'a task')} has ended, and this was to be called then"
            case _:
                why = f"call_soon(){at} has asked for it" if event["why"] == "call_soon" else "it was asked for"
        return f"The loop calls {event['what']}(): {why}."

    def _output(self, event):
        return event["output"]
