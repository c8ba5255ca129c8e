"""What a loop has besides tasks, as plain data: timers and callbacks by kind, descriptors, executors, queues."""

import array
import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import itertools
import linecache
import socket
import struct
import sys
import weakref

try:
    import fcntl
    import termios
except ImportError:  # no such calls there
    fcntl = None

from ..explain.copies import socket_at
from ..explain.waits import address

#: Where in Linux's ``struct tcp_info`` stands how many milliseconds ago something was last sent and received, and how many
#: bytes ever were.
_TCP_INFO, _LAST_SENT, _LAST_RECEIVED, _BYTES = 11, 44, 52, 120


#: Calls in line that are looked through, and of which it is said what they call.
_IN_LINE, _NAMED_IN_LINE = 10_000, 400


def place(function):
    """A function's name and where it is defined: [name, file, line]."""
    while isinstance(function, functools.partial):
        # `to_thread` calls `context.run(function, …)`.
        is_run = getattr(function.func, "__name__", "") == "run" and function.args and callable(function.args[0])
        function = function.args[0] if is_run else function.func
    if function in (socket.getaddrinfo, socket.getnameinfo):
        # Whatever a program has put in their place.
        return ["getaddrinfo" if function is socket.getaddrinfo else "getnameinfo", None, None]
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return [name[:100], code.co_filename, code.co_firstlineno] if code else [name[:100], None, None]


def kinds(groups):
    """What timers and ready callbacks are: how many are alike, what they call, and when the first is due."""
    return [{"count": count, "next": round(due, 6), "calls": _calls(job)} for count, due, job in groups]


def _calls(job):
    if isinstance(job, asyncio.Handle):
        callback = job._callback
        name = getattr(callback, "__name__", "")
        if name in {"_set_result_unless_cancelled", "_release_waiter"}:
            return ["sleep" if name[1] == "s" else "timeout", None, None]
        return place(callback) if callback is not None else ["nothing any more", None, None]
    if isinstance(job, asyncio.Future):
        return ["sleep", None, None]
    name = type(job).__name__
    if name == "builtin_function_or_method" and not isinstance(job.__self__, asyncio.Future):
        # A future is done, and tells a `gather` or its like.
        return place(job)
    if name in {"TaskStepMethWrapper", "builtin_function_or_method"}:
        return ["steps of tasks", None, None]
    return ["timeout" if name == "Timeout" else name, None, None]


# --- descriptors -----------------------------------------------------------------------------------------------------


class Watched:
    """Which descriptors a loop watches, and for whom; holds on to nobody."""

    def __init__(self, loop):
        watched = loop._descriptors()
        self._waiters = {id(who): (fd, direction) for fd, direction, who in watched}
        self._listening = {fd for fd, _, who in watched if type(who).__name__ == "Listener"}
        self._connecting = [
            (fd, direction) for fd, direction, who in watched if getattr(who, "__name__", "") == "sock_connect"
        ]

    def of(self, waiter):
        """(number, "read" or "write") of what a future waits for, or None."""
        return self._waiters.get(id(waiter))

    def connecting(self):
        """The same of the first socket that is being connected."""
        return self._connecting[0] if self._connecting else None

    def is_listening(self, fd):
        return fd in self._listening


def descriptors(where, most, unread, now):
    """What the loop ``where()`` watches and what its transports own, as plain data; ``unread`` remembers since when bytes
    lie somewhere unread. A generator, as the tasks' is."""
    known = {}
    transports = [(fd, weakref.ref(transport)) for fd, transport in where()._transports()]
    watched = [(fd, direction) for fd, direction, _ in where()._descriptors()]
    count = len({fd for fd, _ in watched} | {fd for fd, _ in transports})
    yield
    for number, (fd, reference) in enumerate(transports[:most]):
        transport = reference()
        if transport is not None:
            known[fd] = {"fd": fd, "watched": [], "owner": type(transport).__name__} | _of_transport(fd, transport)
        transport = None
        if number % 16 == 15:
            yield
    others = {fd for fd, _ in watched} - {fd for fd, _ in transports}
    for number, fd in enumerate(sorted(others)[: 2 * most - len(known)]):
        known[fd] = {"fd": fd, "watched": [], "owner": "nobody"} | _of_number(fd)
        if number % 16 == 15:
            yield
    for fd, direction, who in where()._descriptors():
        about = known.get(fd)
        if about is not None:
            about["watched"].append(direction)
            if fd in others:
                about["owner"] = _owner(who)
    who = None
    for fd in [fd for fd in unread if not known.get(fd, {}).get("unread") or "read" in known[fd]["watched"]]:
        del unread[fd]
    for fd, about in known.items():
        if about.get("unread") and "read" not in about["watched"] and about.get("peer"):
            about["unread_since"] = unread.setdefault(fd, now)
    return {"count": count, "described": list(known.values())}


def _owner(who):
    if isinstance(who, asyncio.Handle):
        return place(who._callback)[0] if who._callback is not None else "nobody"
    return getattr(who, "__qualname__", None) or type(who).__name__


def _of_transport(fd, transport):
    about = {}
    own = transport.get_extra_info("socket")
    if own is not None:
        about["own"] = address(transport.get_extra_info("sockname"))
        about["peer"] = address(transport.get_extra_info("peername"))
    about |= _bytes(fd)
    if hasattr(transport, "get_write_buffer_size"):
        about["buffered"] = transport.get_write_buffer_size()
    paused = getattr(transport, "_protocol_paused", False)
    if paused:
        about["full"] = True
    if own is not None and own.type == socket.SOCK_STREAM and own.family in (socket.AF_INET, socket.AF_INET6):
        about |= _idle(own)
    return about


def _of_number(fd):
    about = _bytes(fd)
    with contextlib.suppress(OSError):
        with socket_at(fd) as copy:
            about["own"] = address(copy.getsockname())
            about["peer"] = address(copy.getpeername())
            if copy.type == socket.SOCK_STREAM and copy.family in (socket.AF_INET, socket.AF_INET6):
                about |= _idle(copy)
    return about


def _bytes(fd):
    """How many bytes wait in the kernel: those that nobody has read yet, and those that the peer has not taken."""
    about = {}
    if fcntl is None:
        return about
    for name, request in (("unread", termios.FIONREAD), ("unsent", termios.TIOCOUTQ)):
        number = array.array("i", [0])
        try:
            fcntl.ioctl(fd, request, number)
        except OSError:
            continue
        about[name] = number[0]
    return about


def _idle(own):
    """For how many seconds nothing was sent, and nothing received; and whether the last word was ours."""
    try:
        info = own.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 136)
        sent, received = (struct.unpack_from("I", info, place)[0] / 1e3 for place in (_LAST_SENT, _LAST_RECEIVED))
        bytes_sent, bytes_received = struct.unpack_from("QQ", info, _BYTES)
    except (OSError, struct.error):
        return {}
    # The kernel's clock for these is coarse.
    asked = bytes_sent > 1 and (bytes_received == 0 or received > sent + 0.01)
    return {"sent": sent, "received": received, "asked": asked}


# --- executors -------------------------------------------------------------------------------------------------------


class Executors:
    """A loop's executors. What their threads do is read off their stacks, so that it costs nothing while nobody looks."""

    def __init__(self):
        self._full = weakref.WeakKeyDictionary()  # executor → since when its calls stand in line

    def describe(self, loop, now):
        executors = [loop._default_executor, *loop._executors]
        frames = sys._current_frames() if any(executors) else {}
        known = {id(executor): executor for executor in executors if executor is not None}
        return [self._describe(executor, frames, now) for executor in known.values()]

    def _describe(self, executor, frames, now):
        threads = list(getattr(executor, "_threads", ()) or ())
        doing = [_doing(frames.get(thread.ident)) for thread in threads]
        busy = [name for name in doing if name is not None]
        queue = getattr(executor, "_work_queue", None)
        queued = queue.qsize() if queue is not None else len(getattr(executor, "_pending_work_items", ()))
        most = getattr(executor, "_max_workers", None)
        if queued and (most is None or len(busy) >= most):
            self._full.setdefault(executor, now)
        else:
            self._full.pop(executor, None)
        return {
            "name": getattr(executor, "_thread_name_prefix", "") or type(executor).__name__,
            "threads": len(threads),
            "most": most,
            "busy": len(busy),
            "queued": queued,
            "full_since": self._full.get(executor),
            "jobs": _counted(busy),
        }


class Jobs:
    """The calls in a loop's executors: for how long they have run, or how many are before them in line. Plain data."""

    def __init__(self, loop):
        #: By the ids of their futures.
        self._known = {
            id(future): {"runs": round(seconds, 3), "calls": place(function)}
            for future, seconds, function in loop._running_works()
        }
        executors = {id(executor): executor for executor in (loop._default_executor, *loop._executors) if executor}
        for executor in executors.values():
            queue = getattr(executor, "_work_queue", None)
            line = _in_line(queue) if queue is not None else []
            for number, job in enumerate(line, 1):
                future, function = _parts(job)
                if future is None:
                    continue  # cancelled
                about = {"in_line": number, "of": len(line), "threads": len(executor._threads)}
                if number <= _NAMED_IN_LINE:
                    about["calls"] = place(function)
                self._known[id(future)] = about

    def about(self, future):
        """What is known of the call whose future this is: for how many seconds it "runs", or its place "in_line" "of" so
        many, and how many "threads" are busy with others; and what it "calls"."""
        known = self._known.get(id(future))
        if known is None:
            # The loop's future knows the executor's by its callback.
            source = _source(future)
            known = self._known.get(id(source)) or ({"runs": None} if source is not None and source.running() else {})
        return known


def _in_line(queue):
    """What is in a SimpleQueue, first in first."""
    held = gc.get_referents(queue)
    for inner in held:
        if type(inner) is list:
            held = inner  # up to 3.12
    return [job for job in itertools.islice(held, _IN_LINE) if hasattr(job, "run")]


def _source(future):
    """The executor's future behind one of the loop's, or None."""
    for callback, *_ in getattr(future, "_callbacks", None) or ():
        for held in gc.get_referents(getattr(callback, "__self__", None)):
            if isinstance(held, concurrent.futures.Future):
                return held
    return None


def _parts(job):
    """The future and the function of a call in an executor's queue."""
    if hasattr(job, "fn"):
        return job.future, job.fn
    if hasattr(job, "task"):
        # Since 3.14: the function and its arguments, or what another kind of executor makes of them.
        return job.future, job.task[0] if isinstance(job.task, tuple) else job.task
    # One of ferrio's own: what it refers to, in this order.
    held = [each for each in gc.get_referents(job) if each is not type(job)]
    future, function, *_ = *held, None, None
    return (future, function) if isinstance(future, asyncio.Future) else (None, None)


def _doing(frame):
    """What a thread of a ThreadPoolExecutor does: the place of the function; None if it waits for work."""
    inner = None
    while frame is not None:
        code = frame.f_code
        if code.co_filename.endswith("thread.py") and code.co_name in {"_worker", "run"}:
            if inner is not None:
                return [inner.co_qualname[:100], inner.co_filename, inner.co_firstlineno]
            if code.co_name == "_worker":
                waits = ".get" in linecache.getline(code.co_filename, frame.f_lineno)
                return None if waits else ["C code", None, None]
        else:
            inner = code
        frame = frame.f_back
    return None


def _counted(names):
    counts = {}
    for name in names:
        counts[tuple(name)] = counts.get(tuple(name), 0) + 1
    return [[count, *name] for name, count in sorted(counts.items(), key=lambda item: -item[1])[:10]]


# --- queues ----------------------------------------------------------------------------------------------------------


class Queues:
    """The queues that tasks have in their hands, and how their sizes have been."""

    def __init__(self):
        self._known = weakref.WeakKeyDictionary()

    def meet(self, queue, where):
        """A task has it in its hands, in this line."""
        known = self._known.get(queue)
        if known is None:
            known = self._known[queue] = {"where": where, "sizes": []}
        known["where"] = known["where"] or where

    def describe(self, now):
        described = []
        for queue, known in list(self._known.items()):
            sizes = known["sizes"]
            if not sizes or now - sizes[-1][0] >= 0.3:
                sizes.append((round(now, 3), queue.qsize()))
                del sizes[:-REMEMBERED_SIZES]
            if queue.qsize() or queue._getters or queue._putters:
                described.append(
                    {
                        "size": queue.qsize(),
                        "most": queue.maxsize,
                        "getters": len(queue._getters),
                        "putters": len(queue._putters),
                        "where": known["where"],
                        "sizes": sizes,
                    }
                )
        return sorted(described, key=lambda queue: -queue["size"])[:50]


REMEMBERED_SIZES = 20
