"""What a paused task waits for: found by walking from its coroutine to what that awaits in the end.

asyncio's and ferrio's own coroutines are recognised by their names, and the object they belong to says the rest. What
is not recognised is a future, and is called that.
"""

import asyncio
import gc
import types
import weakref

from .. import _ferrio
from . import places
from .copies import socket_at

_FRAMES = ("cr_frame", "ag_frame", "gi_frame")
#: What a way out of an ``async with`` may be.
METHODS = (types.MethodType, types.BuiltinMethodType, types.FunctionType, types.MethodDescriptorType)
_STEPS = {"async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "anext_awaitable"}


def chain(coroutine):
    """The coroutine, what it awaits, what that awaits, …: every object that is a coroutine in some way."""
    seen = 0
    while coroutine is not None and seen < 1000:
        yield coroutine
        seen += 1
        coroutine = _next(coroutine)


def _next(coroutine):
    if isinstance(coroutine, types.CoroutineType):
        return coroutine.cr_await
    if isinstance(coroutine, types.AsyncGeneratorType):
        return coroutine.ag_await
    if isinstance(coroutine, types.GeneratorType):
        return coroutine.gi_yieldfrom
    if type(coroutine).__name__ in _STEPS:
        # They have no attribute for it.
        for inner in gc.get_referents(coroutine):
            if isinstance(inner, types.CoroutineType | types.AsyncGeneratorType | types.GeneratorType):
                return inner
            if type(inner).__name__ in _STEPS:
                return inner
    return None


def frame_of(coroutine):
    for attribute in _FRAMES:
        frame = getattr(coroutine, attribute, None)
        if frame is not None:
            return frame
    return None


def entered(coroutine):
    """The objects inside of whose ``async with`` a suspended coroutine is: it holds their ways out, as bound methods or, since
    CPython 3.14, as functions, each followed by what it is to be called with."""
    held = gc.get_referents(coroutine)
    for way, following in zip(held, [*held[1:], None]):
        if type(way) in METHODS and way.__name__ == "__aexit__":
            yield getattr(way, "__self__", following)


def lock_of(subject):
    """A condition's lock; else the subject itself."""
    return subject._lock if issubclass(type(subject), asyncio.Condition) else subject


def taker(subject):
    """Which task has taken a lock: (the task, or None if it is gone; its name; its coroutine's, if that is known), three
    times None if none has, None if the lock does not say."""
    lock = lock_of(subject)
    return _ferrio.lock_holder(lock) if issubclass(type(lock), _ferrio.Lock) else None


class Stand:
    """Where a suspended task stands: the frames of the user, outermost first, and the library's calls inside the last."""

    def __init__(self, task):
        self.future = task._fut_waiter
        self.frames = []
        self.calls = []  # (qualified name, whose method or None, frame or None)
        #: The library's call that the user's code awaits: a weak reference, or None.
        self.link = None
        for link in chain(task.get_coro()):
            frame = frame_of(link)
            if frame is None:
                name = getattr(link, "__qualname__", "")
                self.calls.append((name, getattr(link, "_subject", None), None))
            elif places.owner(frame.f_code.co_filename) in {"user", "package"}:
                self.frames.append(frame)
                self.calls.clear()
                self.link = None
                continue
            else:
                self.calls.append((frame.f_code.co_qualname, None, frame))
            if self.link is None:
                self.link = _weak(link)

    def subject(self):
        """The lock, event, … whose method is awaited."""
        for _, subject, frame in self.calls:
            if subject is None and frame is not None:
                # A library's frame, so nothing of the user's is kept alive by looking at its locals.
                subject = frame.f_locals.get("self")
            if subject is not None:
                return subject
        return None


def is_over(coroutine):
    """Whether a coroutine has come to its end. (A native one that is still there is not over.)"""
    return any(hasattr(coroutine, name) for name in _FRAMES) and frame_of(coroutine) is None


def _weak(coroutine):
    try:
        return weakref.ref(coroutine)
    except TypeError:
        return None


def leaves(wait):
    """What a Wait comes to in the end: itself, or each of the alternatives."""
    if not wait:
        return []
    return [leaf for each in wait["of"] for leaf in leaves(each)] if wait["kind"] == "any" else [wait]


class Waits:
    """Describes waits, with the numbers that an observer of the loop has given to tasks and timers."""

    def __init__(self, observer):
        self._observer = observer

    def of(self, task, stand):
        """The Wait of a task that is suspended at ``stand``."""
        what = self._what(stand)
        limits = self._observer.timers.limits(self._observer.life(task), stand.future)
        if limits:
            return {"kind": "any", "of": [what, *limits]}
        return what

    def _what(self, stand):
        for place, (name, subject, frame) in enumerate(stand.calls):
            describe = _KNOWN.get(name)
            if describe is None:
                continue
            if subject is None and frame is not None:
                subject = frame.f_locals.get("self")
            described = describe(self, stand, subject, stand.calls[place:])
            if described is not None:
                return described
        return self._future(stand.future)

    # --- by what is awaited in the end -------------------------------------------------------------------------------

    def _future(self, future):
        observer = self._observer
        if future is None:
            return {"kind": "turn"}
        if isinstance(future, asyncio.Task):
            return self._tasks([future])
        children = getattr(future, "_children", None)
        if children is not None:
            return {"kind": "gather", **self._numbers(children), "done": _done(children), "of": len(children)}
        job = observer.jobs.get(id(future))
        if job is not None:
            return {"kind": "thread", **job}
        timer = observer.timers.wait(future)
        if timer is not None:
            return timer
        inner = _shielded(future)
        if inner is not None:
            return self._tasks([inner]) | {"shielded": True}
        return {"kind": "future", "on": type(future).__name__}

    def _numbers(self, tasks):
        numbers = [self._observer.number(task) for task in tasks]
        found = {"tasks": sorted(number for number in numbers if number is not None)}
        futures = sum(number is None for number in numbers)
        return found | {"futures": futures} if futures else found

    def _tasks(self, tasks):
        found = self._numbers(tasks)
        return {"kind": "task", **found} if found["tasks"] else {"kind": "future", "on": type(tasks[0]).__name__}

    # --- by the coroutine that waits ---------------------------------------------------------------------------------

    def _sleep(self, stand, subject, calls):
        return self._observer.timers.wait(stand.future) or {"kind": "turn"}

    def _lock(self, stand, lock, calls):
        return {"kind": "lock", "on": _name(lock), **self._observer.holder(lock)}

    def _semaphore(self, stand, semaphore, calls):
        return {"kind": "semaphore", "on": _name(semaphore), "holder": None}

    def _condition(self, stand, condition, calls):
        if len(calls) > 1 and any(name in {"Lock.acquire", "Condition.acquire"} for name, *_ in calls[1:]):
            return None  # notified, and now it waits for the lock
        return {"kind": "condition", "on": _name(condition), "holder": None}

    def _tasks_of_group(self, stand, group, calls):
        return {"kind": "task", **self._numbers(list(getattr(group, "_tasks", ()))), "group": True}

    def _wait(self, stand, subject, calls):
        _, _, frame = calls[-1] if calls[-1][2] is not None else calls[0]
        futures = frame.f_locals.get("fs") if frame is not None else None
        if not futures:
            return None
        until = frame.f_locals.get("return_when", asyncio.ALL_COMPLETED)
        tasks = {"kind": "task", **self._numbers(futures), "wait": True, "until": until}
        return self._until(tasks, stand.future)

    def _wait_for(self, stand, subject, calls):
        # Up to 3.11 it runs what it waits for as a task, and waits on a future that this or a timer finishes.
        frame = calls[0][2]
        names = frame.f_locals if frame is not None else {}
        inner, waiter = names.get("fut"), names.get("waiting") or names.get("waiter")
        if isinstance(inner, asyncio.Future) and waiter is not None:
            return self._until(self._future(inner), stand.future)
        return None

    def _until(self, what, future):
        """A Wait that ends with ``future``, which a timer may finish before."""
        timer = self._observer.timers.wait(future)
        return {"kind": "any", "of": [what, timer | {"limit": True}]} if timer else what

    def _thread(self, stand, subject, calls):
        return {"kind": "thread", **self._observer.jobs.get(id(stand.future), {"job": "a call"})}

    def _child(self, stand, process, calls):
        pid = getattr(process, "pid", None)
        return {"kind": "child", "pid": pid}

    def _connecting(self, stand, subject, calls):
        watched = self._observer.descriptors
        found = watched.of(stand.future) or watched.connecting()
        if found is None:
            return {"kind": "future", "on": "the connection"}
        fd, direction = found
        return {"kind": "socket", "fd": fd, "direction": direction, "peer": peer_of(fd), "for": "connection"}

    def _server(self, stand, subject, calls):
        return {"kind": "future", "on": "the server"}

    def _completing(self, stand, subject, calls):
        return {"kind": "future", "on": "the next to finish"}

    def _starting(self, stand, subject, calls):
        return {"kind": "future", "on": "the child process"}

    def _serving(self, stand, server, calls):
        return {"kind": "nobody", "on": "the server"}

    def _reader(self, stand, reader, calls):
        return _socket(getattr(reader, "_transport", None), "read")

    def _writer(self, stand, writer, calls):
        return _socket(getattr(writer, "_transport", None), "write")

    def _closing(self, stand, writer, calls):
        return {"kind": "future", "on": "the end of the connection"}

    def _socket_operation(self, stand, subject, calls):
        found = self._observer.descriptors.of(stand.future)
        if found is None:
            return {"kind": "future", "on": calls[0][0].rpartition(".")[2]}
        fd, direction = found
        return {"kind": "socket", "fd": fd, "direction": direction, "peer": peer_of(fd)}


def _simple(kind):
    return lambda waits, stand, subject, calls: {"kind": kind, "on": _name(subject), "holder": None}


#: Calls within which a task may be woken several times before they are over.
HOPS = {
    "wait_for", "start_server", "start_unix_server", "open_connection", "open_unix_connection", "create_subprocess_exec",
    "create_subprocess_shell", "Process.communicate", "EventLoop.create_server", "EventLoop.create_unix_server",
    "EventLoop.create_connection", "EventLoop.create_unix_connection", "Condition.wait", "Condition.wait_for",
}  # fmt: skip

_KNOWN = {
    "sleep": Waits._sleep,
    "Lock.acquire": Waits._lock,
    "Semaphore.acquire": Waits._semaphore,
    "BoundedSemaphore.acquire": Waits._semaphore,
    "Condition.wait": Waits._condition,
    "Event.wait": _simple("event"),
    "Barrier.wait": _simple("barrier"),
    "Queue.get": _simple("queue-get"),
    "Queue.put": _simple("queue-put"),
    "Queue.join": _simple("queue-join"),
    "TaskGroup.__aexit__": Waits._tasks_of_group,
    "wait": Waits._wait,
    "wait_for": Waits._wait_for,
    "as_completed.<locals>._wait_for_one": Waits._completing,
    "_AsCompletedIterator._wait_for_one": Waits._completing,
    "_next_of": Waits._completing,
    "to_thread": Waits._thread,
    "Process.wait": Waits._child,
    "Process.communicate": Waits._child,
    "create_subprocess_exec": Waits._starting,
    "create_subprocess_shell": Waits._starting,
    "open_connection": Waits._connecting,
    "open_unix_connection": Waits._connecting,
    "EventLoop.create_connection": Waits._connecting,
    "EventLoop.create_unix_connection": Waits._connecting,
    "start_server": Waits._server,
    "start_unix_server": Waits._server,
    "EventLoop.create_server": Waits._server,
    "EventLoop.create_unix_server": Waits._server,
    "Server.serve_forever": Waits._serving,
    "StreamWriter.drain": Waits._writer,
    "StreamWriter.wait_closed": Waits._closing,
    **{f"StreamReader.{name}": Waits._reader for name in ("read", "readline", "readuntil", "readexactly", "__anext__")},
    "StreamReader._wait_for_data": Waits._reader,
    **{
        f"Loop.{name}": Waits._socket_operation
        for name in (
            "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendto",
            "sock_connect", "sock_accept",
        )
    },
}  # fmt: skip


def _done(futures):
    return sum(future.done() for future in futures)


def _name(subject):
    return type(subject).__name__


def _shielded(future):
    """What ``shield()`` stands before, if the future is its."""
    # Since CPython 3.14 it keeps the task that called it as well.
    callers = getattr(future, "_asyncio_awaited_by", None) or ()
    for callback, *_ in getattr(future, "_callbacks", None) or ():
        if getattr(callback, "__name__", "") == "_outer_done_callback":
            # asyncio's is a closure, ferrio's a method of a native object.
            held = [cell.cell_contents for cell in getattr(callback, "__closure__", None) or ()]
            held += gc.get_referents(getattr(callback, "__self__", None))
            for inner in held:
                if isinstance(inner, asyncio.Future) and inner is not future and inner not in callers:
                    return inner
    return None


def _socket(transport, direction):
    if transport is None:
        return None
    own = transport.get_extra_info("socket") or transport.get_extra_info("pipe")
    try:
        fd = own.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    if fd < 0:
        return None
    peer = transport.get_extra_info("peername")
    if transport.get_extra_info("pipe") is not None:
        return {"kind": "socket", "fd": fd, "direction": direction, "peer": None, "pipe": True}
    return {"kind": "socket", "fd": fd, "direction": direction, "peer": address(peer)}


def address(name):
    """A socket's address in one word, or None."""
    if isinstance(name, tuple):
        return f"[{name[0]}]:{name[1]}" if ":" in str(name[0]) else f"{name[0]}:{name[1]}"
    if isinstance(name, bytes):
        name = name.decode(errors="replace")
    return name or None


def peer_of(fd):
    """The peer of a socket that is only known by its number, or None."""
    try:
        with socket_at(fd) as copy:
            return address(copy.getpeername())
    except OSError:
        return None
