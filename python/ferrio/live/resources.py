"""What a loop has besides tasks, as plain data: timers and callbacks by kind, descriptors, executors, queues."""

import array
import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import linecache
import socket
import struct
import sys
import threading
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


#: Of the transports, and besides of all descriptors twice as many, so many are described: for who asks, and unasked.
ASKED, UNASKED = 400, 60

#: Descriptors that are looked at in one piece, and that are described in one.
_WATCHED, _DESCRIBED = 256, 16

#: Calls in line that are looked through, how many of them in one piece, and of how many it is said what they call.
_IN_LINE, _IN_LINE_PIECE, _NAMED_IN_LINE = 10_000, 256, 400

#: Queues that are looked at in one piece.
_QUEUES = 256


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


class Kinds:
    """What timers and ready callbacks are: how many are alike, what they call, and when the first is due. Plain data."""

    #: Kinds that are told apart.
    _MOST = 1000

    def __init__(self):
        self._known = {}  # what is called → [how many, when the first is due]

    def add(self, groups):
        """Some more: how many are alike, when the first of them is due, and one of them."""
        for count, due, job in groups:
            key = tuple(_calls(job))
            known = self._known.get(key)
            if known is not None:
                known[0] += count
                known[1] = min(known[1], due)
            elif len(self._known) < self._MOST:
                self._known[key] = [count, due]

    def most_frequent(self, now):
        kinds = sorted(self._known.items(), key=lambda item: -item[1][0])[:12]
        return [{"count": count, "next": round(due - now, 6), "calls": list(calls)} for calls, (count, due) in kinds]


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
    """Which descriptors a loop watches, and for whom; which of them transports own. Plain data; holds on to nobody."""

    def __init__(self):
        #: All numbers, and those that transports own.
        self.numbers, self.owned = [], []
        self._waiters = {}  # id of who waits → (number, direction)
        self._listening = set()
        self._connecting = None
        #: Whom to ask whether that is still so.
        self.loop = None

    def look(self, where):
        """Looks at those of the loop ``where()``. A generator, as the tasks' is."""
        start = 0
        while start is not None:
            start, found = where()._look_at_descriptors(start, _WATCHED)
            for fd, transport, waiters in found:
                self.numbers.append(fd)
                if transport is not None:
                    self.owned.append(fd)
                for direction, who in waiters:
                    self._waiters[id(who)] = fd, direction
                    if type(who).__name__ == "Listener":
                        self._listening.add(fd)
                    if self._connecting is None and getattr(who, "__name__", "") == "sock_connect":
                        self._connecting = fd, direction
            found = transport = waiters = who = None
            yield

    def of(self, waiter):
        """(number, "read" or "write") of what a future waits for, or None."""
        found = self._waiters.get(id(waiter))
        if found is None or not any(who is waiter for _, _, waiters in _at(self.loop, found[0]) for _, who in waiters):
            return None
        return found

    def connecting(self):
        """The same of the first socket that is being connected."""
        return self._connecting

    def is_listening(self, fd):
        return fd in self._listening


def _at(loop, fd):
    """What a loop says of one descriptor, in a list; an empty one if it has to do with it no more."""
    return loop._look_at_descriptors(fd, 1)[1]


def descriptors(where, watched, is_asked, unread, now):
    """What the loop ``where()`` watches and what its transports own, as plain data; ``unread`` remembers since when bytes
    lie somewhere unread. A generator, as the tasks' is."""
    known, most = {}, ASKED if is_asked else UNASKED
    owned = set(watched.owned)
    others = [fd for fd in watched.numbers if fd not in owned]
    chosen = watched.owned[:most]
    chosen += others[: 2 * most - len(chosen)]
    yield
    for start in range(0, len(chosen), _DESCRIBED):
        for fd in chosen[start : start + _DESCRIBED]:
            for _, transport, waiters in _at(where(), fd):
                about = {"fd": fd, "watched": [direction for direction, _ in waiters]}
                if transport is not None:
                    about |= {"owner": type(transport).__name__} | _of_transport(fd, transport)
                else:
                    about |= {"owner": _owner(waiters[-1][1])} | _of_number(fd)
                known[fd] = about
        transport = waiters = None
        yield
    for fd in [fd for fd in unread if not known.get(fd, {}).get("unread") or "read" in known[fd]["watched"]]:
        del unread[fd]
    for fd, about in known.items():
        if about.get("unread") and "read" not in about["watched"] and about.get("peer"):
            about["unread_since"] = unread.setdefault(fd, now)
    return {"count": len(watched.numbers), "described": list(known.values())}


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
        executors = _executors(loop)
        frames = _frames() if executors else {}
        return [self._describe(executor, frames, now) for executor in executors]

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

    def __init__(self):
        self._known = {}  # id of a call's future → about it

    def look(self, where):
        """Looks at those of the loop ``where()``. A generator, as the tasks' is."""
        for future, seconds, function in where()._running_works():
            self._known[id(future)] = {"runs": round(seconds, 3), "calls": place(function)}
        future = function = None
        self._meet_running(_executors(where()))
        executors = list(map(weakref.ref, _executors(where())))
        yield
        for reference in executors:
            count, last = 0, None
            while line := _in_line(reference()):
                # Those in front may have been taken out since the last piece.
                while count and (count > len(line) or id(line[count - 1]) != last):
                    count -= 1
                piece, number = line[count : count + _IN_LINE_PIECE], 0
                if not piece:
                    break
                about = {"of": len(line), "threads": len(getattr(reference(), "_threads", ()))}
                for number, job in enumerate(piece, count + 1):
                    self._meet(job, about | {"in_line": number})
                count, last = number, id(job)
                line = piece = job = None
                yield

    def _meet_running(self, executors):
        """What the threads of executors do that do not say so themselves: not for how long."""
        frames = _frames() if executors else {}
        for executor in executors:
            for thread in list(getattr(executor, "_threads", ()) or ()):
                future, function = _parts(_job_of(frames.get(thread.ident)))
                if future is not None and function is not None:
                    self._known.setdefault(id(future), {"runs": None, "calls": place(function)})

    def _meet(self, job, about):
        future, function = _parts(job)
        if future is None:
            return  # cancelled
        if about["in_line"] <= _NAMED_IN_LINE:
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


def _frames():
    """What other threads do. (Our own frame would be held by itself.)"""
    frames = sys._current_frames()
    frames.pop(threading.get_ident(), None)
    return frames


def _executors(loop):
    known = [loop._default_executor, *loop._executors]
    return list({id(executor): executor for executor in known if executor is not None}.values())


def _in_line(executor):
    """What is in an executor's SimpleQueue, first in first."""
    queue = getattr(executor, "_work_queue", None)
    held = gc.get_referents(queue)
    for inner in held:
        if type(inner) is list:
            held = inner  # up to 3.12
    return [job for job in held[: _IN_LINE + 1] if job is not type(queue)]


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


def _job_of(frame):
    """What a thread of a ThreadPoolExecutor has taken out of its queue, or None."""
    while frame is not None:
        if frame.f_code.co_name == "_worker" and frame.f_code.co_filename.endswith("thread.py"):
            if sys.version_info >= (3, 13):
                return frame.f_locals.get("work_item")
            # It is a copy, which would stay with the frame and keep the job; a debugger may be about to write it back.
            return frame.f_locals.pop("work_item", None) if frame.f_trace is None else None
        frame = frame.f_back
    return None


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

    def still(self, queue, where, now):
        """Since when, at least, nothing has been taken out of a queue to which somebody waits to add: as long as the same one
        is the next to find room."""
        putters = queue._putters
        if not len(putters):
            return {}
        self.meet(queue, where)
        known = self._known[queue]
        if known.get("next", lambda: None)() is not putters[0]:
            known |= {"next": weakref.ref(putters[0]), "still_since": now}
        return {"still_since": round(known["still_since"], 3)}

    def describe(self, now):
        """Those that are in use, as plain data. A generator, as the tasks' is."""
        described = []
        references = self._known.keyrefs()
        for start in range(0, len(references), _QUEUES):
            for reference in references[start : start + _QUEUES]:
                queue = reference()
                if queue is not None:
                    described += self._describe(queue, self._known[queue], now)
            queue = None
            yield
        return sorted(described, key=lambda queue: -queue["size"])[:50]

    def _describe(self, queue, known, now):
        sizes = known["sizes"]
        if not sizes or now - sizes[-1][0] >= 0.3:
            sizes.append((round(now, 3), queue.qsize()))
            del sizes[:-REMEMBERED_SIZES]
        if not (queue.qsize() or queue._getters or queue._putters):
            return []
        about = {"size": queue.qsize(), "most": queue.maxsize}
        about |= {"getters": len(queue._getters), "putters": len(queue._putters)}
        return [about | {"where": known["where"], "sizes": sizes}]


REMEMBERED_SIZES = 20
