"""The tasks of a loop as plain data: what each waits for, since when, and who could end that.

Some are described one by one, all others are counted by what they do. A frame object, once made, stays with its
coroutine, so only what is described has its frames looked at. Nothing of the program's is called: of its objects, which
may be proxies for others, only types are asked.
"""

import asyncio
import collections
import contextlib
import itertools
import linecache
import time
import types
import weakref

from ..explain.waits import Stand, Waits, leaves, lock_of, taker
from . import resources, stands
from .listing import Listed
from .timers import Timers

#: Tasks that are described one by one, and tasks that are counted by what they do: for who asks, and unasked.
ASKED, UNASKED = (400, 200_000), (60, 1_000)

#: Tasks that are named in one Wait, and those that are asked whether they are inside of a lock.
_NAMED, _USERS = 20, 50

#: Tasks that are looked at in one piece: for less than a millisecond when they are described, a tenth of one when they
#: are counted.
_DESCRIBED, _COUNTED = 16, 64

#: Groups that are told apart.
_GROUPS = 2000

_WORDS = {"thread": "executor", "turn": "ready"}


class Tasks:
    """What is remembered of a loop's tasks from one snapshot to the next."""

    def __init__(self):
        self._listed = Listed()
        self._since = {}  # id of a task → (weak reference to what it waits on, when that was first seen)

    def look(self, where, watched, is_asked, queues):
        """The tasks of the loop ``where()``: some one by one, more by what they do; and its timers.

        A generator, which yields after each piece of work, and which the loop may go on in between: each task is told of
        as it was at one moment, but not all at the same. It holds on to nothing meanwhile. What it returns is plain data.
        """
        begun = time.monotonic()
        described, counted = ASKED if is_asked else UNASKED
        listing = self._listed.listing(where(), counted, is_asked)
        groups, seen = {}, 0
        while listing.left(where()):
            seen += _group(listing.take(where(), _COUNTED), where(), groups, 10 * described)
            yield
        count = listing.estimate(seen)
        chosen = _choose(groups, described)
        timers = Timers(5 * counted)
        yield from timers.look(where)
        jobs = resources.Jobs()
        yield from jobs.look(where)
        here = _Here(where(), [reference for reference, _ in chosen], watched, timers, jobs)
        here.is_complete = len(chosen) == count
        yield
        for start in range(0, len(chosen), _DESCRIBED):
            here.find_users(start, start + _DESCRIBED)
            yield
        since, about = {}, []
        for start in range(0, len(chosen), _DESCRIBED):
            about += self._describe(chosen[start : start + _DESCRIBED], here, where(), begun, since, queues)
            yield
        self._since = since
        return _summary(count, seen, groups, zip(chosen, about)), timers.summary(where())

    def _describe(self, chosen, here, loop, begun, since, queues):
        """Some tasks as plain data, None for those that are over."""
        about = []
        here.stand_at(loop)
        for reference, _ in chosen:
            task = reference()
            if task is None or task.done():
                about.append(None)
                continue
            try:
                one = here.describe(task, queues, begun)
            except (RuntimeError, AttributeError, TypeError) as error:
                # A task of a class that is like no other, or one that a thread is changing.
                one = {"name": task.get_name()[:64], "coro": "", "state": "unknown", "stack": [], "wait": None}
                one["error"] = type(error).__name__
            first = self._first_seen(task, begun)
            if first is not None and one["wait"]:
                since[id(task)] = first
                one["since"] = round(first[1], 3)
            about.append(one)
        task = first = None
        here.stand_at(None)
        here.settle()
        for one in about:
            if one and one["wait"]:
                one["state"] = _word(one["wait"])
        return about

    def _first_seen(self, task, now):
        """What it waits on and since when, at least."""
        future = getattr(task, "_fut_waiter", None)
        if future is None:
            return None
        known = self._since.get(id(task))
        if known is not None and known[0]() is future:
            return known
        try:
            return weakref.ref(future), now
        except TypeError:
            return None


def _summary(count, seen, groups, described):
    """All that is said of the tasks."""
    states, about = collections.Counter(), []
    for (_, group), one in described:
        if one is not None:
            group["states"][one["state"]] += 1
            if one["stack"]:
                group["lines"][tuple(one["stack"][-1])] += 1
            about.append(one)
    result = []
    for key, group in groups.items():
        state = group["states"].most_common(1)[0][0] if group["states"] else "unknown"
        states[state] += group["count"]
        line = group["lines"].most_common(1)[0][0] if group["lines"] else None
        result.append({"coro": key[0], "count": group["count"], "state": state, "line": line})
    result.sort(key=lambda group: -group["count"])
    return {"count": count, "counted": seen, "states": dict(states), "groups": result[:60], "described": about}


def _group(tasks, loop, groups, most):
    """Adds tasks to the groups of those that do the same: the codes of their coroutines, and what the last one awaits. A
    group remembers its share of ``most`` tasks, and at least one.

    Returns how many of them belong to the loop and are not over.
    """
    count = 0
    for task in tasks:
        if task.done() or task.get_loop() is not loop:
            continue
        count += 1
        key = _doing(task)
        group = groups.get(key)
        if group is None and len(groups) >= _GROUPS:
            key = ("others",)
            group = groups.get(key)
        if group is None:
            group = groups[key] = {
                "count": 0,
                "tasks": [],
                "states": collections.Counter(),
                "lines": collections.Counter(),
            }
        group["count"] += 1
        if len(group["tasks"]) <= most // len(groups):
            group["tasks"].append(weakref.ref(task))
    return count


def _doing(task):
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", None) or type(coroutine).__name__
    codes, depth = [name[:100]], 0
    while type(coroutine) is types.CoroutineType and depth < 8:
        codes.append(coroutine.cr_code)
        coroutine = coroutine.cr_await
        depth += 1
    future = getattr(task, "_fut_waiter", None)
    codes.append(getattr(coroutine, "__qualname__", None) or type(coroutine).__name__)
    codes.append("ready" if future is None or _is_done(future) else type(future).__name__)
    return tuple(codes)


def _is_done(future):
    # What is native and awaited as it is has no such method: whoever waits for it is not told before it is done.
    done = getattr(future, "done", None)
    return done is not None and done()


def _choose(groups, most):
    """Of each group as many as all can have; of small ones all."""
    chosen, each = [], max(1, most // max(1, len(groups)))
    by_size = sorted(groups.values(), key=lambda group: group["count"])
    for number, group in enumerate(by_size):
        each = max(1, (most - len(chosen)) // (len(by_size) - number))
        chosen += [(task, group) for task in itertools.islice(group["tasks"], each)]
        if len(chosen) >= most:
            break
    return chosen


class _Here:
    """One look: what ``explain``'s Waits asks of an observer, answered from what the loop says at this moment."""

    def __init__(self, loop, references, watched, timers, jobs):
        self.loop = None
        self.descriptors = watched
        self.timers = timers
        self._jobs = jobs
        self._references = references
        #: What is known of calls in executors by their futures: nothing, so that they cost nothing.
        self.jobs = {}
        self._waits = Waits(self)
        self._current = asyncio.current_task(loop)
        self._named = 0
        #: Whether there are no tasks but these.
        self.is_complete = False
        #: Waits that may be for nobody: (the Wait, whose it is, what it waits on), both weakly.
        self._doubts = []
        #: Which tasks have to do with a lock, by its id.
        self._users = {}

    def stand_at(self, loop):
        """What is asked from now on is asked of the loop as it is now; nothing more is asked if it is None."""
        self.loop = self.descriptors.loop = loop
        self.timers.stand_at(loop)

    def find_users(self, start, end):
        """Looks which locks some of the tasks have to do with: inside of which one is may be another when it is asked."""
        for reference in self._references[start:end]:
            task = reference()
            if task is not None:
                inside, entering = stands.doors(task)
                for lock in inside | entering | {id(held) for held in stands.held(task, stands.LOCKS)}:
                    self._users.setdefault(lock, []).append(reference)

    # --- for Waits ---------------------------------------------------------------------------------------------------

    def life(self, task):
        return task

    def number(self, task):
        """What stands for a task in a Wait: its name. Of very many some are enough."""
        if self._named >= _NAMED or not isinstance(task, asyncio.Task) or task.done():
            return None
        self._named += 1
        return task.get_name()[:64]

    def holder(self, lock):
        """Nothing yet: see :meth:`_complete_lock`, which knows who waits."""
        return {"holder": None}

    def _holder(self, waiting, lock):
        """Who has a lock: ``holder`` and ``coro``, its name and its coroutine's; ``held``, how; ``held_by``, its "id"; ``at``,
        where it stands."""
        known = taker(lock)
        if known is None:
            inside = self._inside(lock)
            return {"holder": None} if inside is None else _holds(inside, "inside")
        task, name, coroutine = known
        if name is None:
            return {"holder": None, "held": "outside"}
        if task is None or task.done():
            return {"holder": name[:64], "coro": coroutine and coroutine[:100], "held": "finished"}
        if task is waiting:
            return _holds(task, "itself")
        is_inside = any(lock_of(each) is lock_of(lock) for each in stands.all_entered(task))
        return _holds(task, "inside" if is_inside else "acquired")

    def _inside(self, lock):
        """The task that is inside of ``async with lock``, among those that are looked at."""
        for reference in self._users.get(id(lock), ())[:_USERS]:
            task = reference()
            if task is not None and id(lock) in stands.doors(task)[0]:
                return task
        return None

    # --- a task ------------------------------------------------------------------------------------------------------

    def describe(self, task, queues, now):
        about = stands.called(task, "name") | {"id": id(task), "stack": stands.stack(task)}
        if stands.is_main(task):
            about["main"] = True
        if task.cancelling():
            about["cancelling"] = True
        future = getattr(task, "_fut_waiter", None)
        for queue in stands.held(task, (asyncio.Queue,)):
            queues.meet(queue, about["stack"][-1] if about["stack"] else None)
        if task is self._current:
            return about | {"state": "running", "wait": None}
        if future is None or _is_done(future):
            return about | {"state": "ready", "wait": None}
        self._named = 0
        stand = Stand(task)
        if stand.calls:
            about["calls"] = [name for name, *_ in stand.calls][:4]
        wait = self._complete(self._waits.of(task, stand), task, stand, future)
        for leaf in leaves(wait):
            if leaf["kind"] == "queue-put" and "queue" in leaf:
                leaf |= queues.still(stand.subject(), about["stack"][-1] if about["stack"] else None, now)
        return about | {"state": "waiting", "wait": wait}

    def _complete(self, wait, task, stand, future):
        """Adds to a Wait who could end it."""
        for leaf in leaves(wait):
            kind = leaf["kind"]
            subject = stand.subject() if kind not in {"timer", "task", "gather"} else None
            if kind == "thread":
                leaf |= self._jobs.about(future) | _threads_call(stand)
            elif kind in {"lock", "semaphore", "condition", "event", "barrier"} and subject is not None:
                self._complete_lock(leaf, task, subject)
            elif kind.startswith("queue") and subject is not None:
                about = {"size": subject.qsize(), "most": subject.maxsize}
                about |= {"getters": len(subject._getters), "putters": len(subject._putters)}
                leaf |= about | {"queue": id(subject)}
                if kind == "queue-join":
                    leaf["unfinished"] = subject._unfinished_tasks
                self._doubt(leaf, task, subject)
            elif kind == "child":
                pipes = ("stdout", "stderr")
                leaf["full"] = [name for name in pipes if getattr(getattr(subject, name, None), "_paused", False)]
            elif kind == "socket" and leaf["direction"] == "read" and self.descriptors.is_listening(leaf["fd"]):
                leaf["for"] = "accept"
            elif kind == "future" and _is_look_up(stand, future):
                leaf |= {"kind": "thread", "job": "getaddrinfo"} | self._jobs.about(future)
            elif kind == "future" and stand.frames and not stand.calls[1:] and _is_executors(stand.frames[-1]):
                leaf |= {"kind": "thread", "job": "a call"} | self._jobs.about(future)
            elif kind == "future" and type(future) is asyncio.Future and wait is leaf:
                self._doubt(leaf, task, future)
        return wait

    def _complete_lock(self, leaf, task, subject):
        leaf["waiters"] = len(getattr(subject, "_waiters", None) or ())
        if leaf["kind"] in {"lock", "semaphore"}:
            # Of a semaphore there may be several.
            leaf |= self._holder(task, subject)
            leaf["searched"] = self.is_complete
            if leaf["holder"] is None and "held" not in leaf:
                # Taken with acquire(), and it is none of ferrio's. Those who wait for it have not got it.
                users = [reference() for reference in self._users.get(id(subject), ())[:_USERS]]
                others = [
                    user for user in users if user not in (None, task) and id(subject) not in stands.doors(user)[1]
                ]
                leaf["in_hand"] = [other.get_name()[:64] for other in others[:_NAMED]]
        else:
            self._doubt(leaf, task, subject)

    def settle(self):
        """Now that nothing here refers to them any more: which of the awaited objects can nobody else reach?"""
        if not self._doubts:
            return
        waits = collections.Counter(id(getattr(task(), "_fut_waiter", None)) for task in self._references)
        for leaf, task, reference in self._doubts:
            leaf["others"] = others = stands.others(reference, task(), waits)
            if others == 0:
                leaf["kind"], leaf["was"] = "nobody", leaf["kind"]
        self._doubts = []

    def _doubt(self, leaf, task, subject):
        with contextlib.suppress(TypeError):  # it cannot be referred to weakly
            self._doubts.append((leaf, weakref.ref(task), weakref.ref(subject)))


def _word(wait):
    """curio's idea: one word for what a task does."""
    kind = wait["kind"]
    if kind == "nobody" and wait.get("on") == "the server":
        return "server"
    if kind == "future" and wait.get("on") == "the connection":
        return "connect"
    if kind == "any":
        return _word(wait["of"][0])
    if kind == "socket":
        return wait.get("for", "").replace("connection", "connect") or f"socket-{wait['direction']}"
    if kind == "thread" and wait.get("job") in {"getaddrinfo", "getnameinfo"}:
        return "dns"
    return _WORDS.get(kind, kind)


def _holds(task, how):
    """Who has a lock, and how."""
    return stands.called(task, "holder") | {"held": how, "held_by": id(task), "at": stands.stack(task)}


def _threads_call(stand):
    """What `to_thread()` calls, which is among its own variables."""
    for name, _, frame in stand.calls:
        if name == "to_thread" and frame is not None:
            function = frame.f_locals.get("func")
            if function is not None:
                called = resources.place(function)
                return {"job": called[0], "calls": called}
    return {}


def _is_executors(frame):
    """Whether the line at which a frame waits calls `run_in_executor()`: its future says nothing of where it is from."""
    return "run_in_executor" in linecache.getline(frame.f_code.co_filename, frame.f_lineno or 0)


def _is_look_up(stand, future):
    names = {name for name, *_ in stand.calls} | {getattr(future, "__qualname__", "")}
    return not names.isdisjoint({"Loop.getaddrinfo", "Loop.getnameinfo"})
