"""What a program does against itself, noticed where it happens."""

import asyncio
import collections
import concurrent.futures
import functools
import operator
import re
import sys
import threading
import time
import warnings
import weakref

import ferrio

from . import places
from .callbacks import short, short_name
from .waits import chain, entered

#: Seconds; a loop's `slow_callback_duration` has its say.
_LONG = 0.1

#: What may block, among what the interpreter reports of itself.
_CALLS = {
    "time.sleep", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.getnameinfo", "subprocess.Popen",
    "os.system", "os.spawn", "open", "urllib.Request", "http.client.connect", "sqlite3.connect", "ftplib.connect",
    "smtplib.connect", "os.fork", "os.posix_spawn", "shutil.copyfile", "shutil.copytree", "shutil.rmtree", "glob.glob",
}  # fmt: skip


def watch(recorder):
    """Has what cannot be seen from the loop reported to the recorder. Yields what undoes it."""
    yield from _listen(recorder)
    # A coroutine is to know where it was made.
    depth = sys.get_coroutine_origin_tracking_depth()
    sys.set_coroutine_origin_tracking_depth(max(1, depth))
    yield lambda: sys.set_coroutine_origin_tracking_depth(depth)
    yield _replace(warnings, "_warn_unawaited_coroutine", lambda original: _never_awaited(recorder, original))
    yield _replace(warnings, "_showwarnmsg", lambda original: _warnings(recorder, original))
    yield _replace(ferrio.EventLoop, "call_exception_handler", lambda original: _exceptions(recorder, original))
    yield _replace(ferrio.EventLoop, "run_in_executor", lambda original: _jobs(recorder, original))
    yield _replace(ferrio.EventLoop, "close", lambda original: _closing(recorder, original))


def _replace(owner, name, make):
    original = getattr(owner, name)
    setattr(owner, name, make(original))

    def undo():
        setattr(owner, name, original)

    return undo


# --- blocking ----------------------------------------------------------------------------------------------------------


def _listen(recorder):
    """The interpreter says what it is about to do (see `sys.addaudithook`): what of it a slow step did is then known."""

    def hear(event, arguments):
        if event not in _CALLS or recorder._over:
            return
        observer = recorder.observers.get(threading.get_ident())
        if observer is None or observer.step is None or len(observer.calls) > 1000:
            return
        frame = places.here(1, observer.floor)
        if frame is not None:
            seconds = arguments[0] if event == "time.sleep" and arguments else None
            place = (event, frame.f_code.co_filename, frame.f_lineno)
            observer.calls.append((recorder.own_time(), place, seconds if isinstance(seconds, int | float) else None))

    sys.addaudithook(hear)
    if sys.version_info < (3, 13):
        # Up to here the interpreter says nothing of time.sleep().
        yield _replace(time, "sleep", lambda original: _heard(original, hear))


def _heard(original, hear):
    @functools.wraps(original)
    def sleep(*arguments):
        hear("time.sleep", arguments)
        return original(*arguments)

    return sleep


def blocked(observer, life, took):
    """A step has ended. Did it keep the others waiting?"""
    recorder, loop = observer.recorder, observer.loop
    limit = loop.slow_callback_duration if loop is not None else _LONG
    if took < (limit if isinstance(limit, int | float) and limit > 0 else _LONG) or (life is not None and life.inner):
        return
    ready = [each for each in observer.lives() if each.state == "ready" and each.number and each is not life]
    victims = [each.number for each in sorted(ready, key=lambda each: each.queued)]
    if not observer.virtual:
        victims += [each.number for each in observer.timers.overdue() if each.number and each is not life]
    event = {"event": "mistake", "kind": "blocked", "cost": round(took, 6), "victims": list(dict.fromkeys(victims))}
    if life is not None:
        event["life"] = life
    call, part = _culprit(observer.calls, observer.own_now, took)
    if call is not None:
        event["call"], file, line = call
        event["place"] = recorder.places.at(file, line)
        if part < 0.75 * took:
            event["part"] = round(part, 6)
    elif life is not None and observer.began_at:
        event["place"] = observer.began_at
        if life.state != "done" and life.place and life.place["file"] == observer.began_at["file"]:
            event["until"] = life.place["line"]
    observer.tell(event)


def _culprit(calls, end, took):
    """The call in which most of the time went by, if one such there is, and how much.

    How long a sleep is, is known. Of other calls it is only known when they begin: one after which most of the time went
    by is said to have taken all of it.
    """
    spent = collections.Counter()
    for (when, call, seconds), following in zip(calls, [*calls[1:], (end,)]):
        gap = following[0] - when
        if seconds is not None:
            spent[call] += min(gap, seconds)
        elif gap > 0.5 * took:
            spent[call] = took
    call, most = max(spent.items(), key=operator.itemgetter(1), default=(None, 0))
    return (call, most) if most > 0.2 * took else (None, 0)


# --- coroutines, tasks and exceptions ------------------------------------------------------------------------------------


def _never_awaited(recorder, original):
    def _warn_unawaited_coroutine(coroutine):
        code = getattr(coroutine, "cr_code", None)
        origin = getattr(coroutine, "cr_origin", None)
        whose = places.owner(code.co_filename) if code is not None else None
        place = next((at for at in origin or () if places.owner(at[0]) == "user"), None)
        if whose in {"user", "package"} or place is not None:
            _tell_never_awaited(recorder, coroutine.__name__, place)
        # As without us: the origin is only known because we asked for it.
        # (That a warning takes its time is not the program's fault.)
        begun, spent = time.perf_counter(), recorder.spent
        recorder.warning = True
        try:
            if origin is None or len(origin) > 1:
                return original(coroutine)
            message = f"coroutine '{coroutine.__qualname__}' was never awaited"
            return warnings.warn(message, category=RuntimeWarning, stacklevel=2, source=coroutine)
        finally:
            recorder.warning = False
            recorder.spent = spent + time.perf_counter() - begun

    return _warn_unawaited_coroutine


def _warnings(recorder, original):
    """A native coroutine only warns, where it is dropped. That is the place if its call stands there."""

    def _showwarnmsg(message):
        found = re.fullmatch("coroutine '(.+)' was never awaited", str(message.message))
        if found and not recorder.warning and places.owner(message.filename) == "user":
            what, place = found[1].rpartition(".")[2], (message.filename, message.lineno)
            code = recorder.places.at(*place)["code"]
            _tell_never_awaited(recorder, what, place if places.call_in(code, what) else None)
        return original(message)

    return _showwarnmsg


def _tell_never_awaited(recorder, what, place):
    if recorder._over:
        return
    event = {"event": "mistake", "kind": "never-awaited", "cost": 0, "victims": [], "what": what}
    if place is not None:
        event["place"] = recorder.places.at(*place[:2])
    observer = recorder.observers.get(threading.get_ident())
    if observer is not None:
        observer.tell(event)
    else:
        recorder.emit(None, event)


def _exceptions(recorder, original):
    def call_exception_handler(self, context):
        message = context.get("message") or ""
        task = context.get("task") or context.get("future")
        observer = recorder.of_loop(self)
        if observer is not None and not recorder._over:
            life = observer.life(task) if task is not None else None
            event = {"event": "mistake", "cost": 0, "victims": []}
            if life is not None and life.number:
                event["life"] = life
                event["victims"] = [life.number]
            if "exception was never retrieved" in message:
                error = context.get("exception")
                observer.tell(event | {"kind": "never-retrieved", **_failure(recorder, error)})
            elif "destroyed but it is pending" in message and "life" in event:
                observer.tell(event | {"kind": "unkept-task", "lost": True})
        return original(self, context)

    return call_exception_handler


def _failure(recorder, error):
    found = {"value": short(error)}
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if places.is_users(code):
            found["place"] = recorder.places.at(code.co_filename, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


def unkept(observer, life, place, code):
    """A task was made and thrown away in one breath. Unless somebody holds it after all, that is a mistake."""
    task = life.task()
    if task is None or (code, place["line"]) in observer.recorder.seen:
        return
    for callback, *_ in getattr(task, "_callbacks", None) or ():
        if isinstance(getattr(callback, "__self__", None), asyncio.TaskGroup):
            return
    observer.recorder.seen.add((code, place["line"]))
    observer.tell(
        {"event": "mistake", "kind": "unkept-task", "cost": 0, "victims": [life.number], "life": life, "place": place}
    )


def pending_at_exit(observer, lives, cancelled=False):
    """The program ends, and these tasks have not."""
    event = {"event": "mistake", "kind": "pending-at-exit", "cost": 0, "victims": [life.number for life in lives]}
    if cancelled:
        event["cancelled"] = True
    if len(lives) == 1:
        event["life"] = lives[0]
    observer.tell(event)


def left_behind(recorder):
    """The program is over: what has it left?"""
    for life in list(recorder.lives.values()):
        task = life.task()
        if task is not None and life.number and task.done() and task._log_traceback:
            event = {"event": "mistake", "kind": "never-retrieved", "cost": 0, "victims": [life.number], "life": life}
            recorder.emit(life.observer, event | _failure(recorder, task._exception))


# --- threads -------------------------------------------------------------------------------------------------------------


def _jobs(recorder, original):
    def run_in_executor(self, executor, func, *args):
        future = original(self, executor, func, *args)
        observer = recorder.of_loop(self)
        if observer is not None:
            job = {"job": _job(func)}
            if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
                job["process"] = True
            observer.jobs[id(future)], observer.working[id(future)] = job, weakref.ref(future)
            for known in observer.jobs, observer.working:
                weakref.finalize(future, known.pop, id(future), None).atexit = False
        return future

    return run_in_executor


def _job(function):
    inner = getattr(function, "args", ())
    # What to_thread() makes: `context.run` of the function.
    if getattr(getattr(function, "func", None), "__name__", "") == "run" and inner:
        function = inner[0]
    return f"{short_name(function)}()"


def _closing(recorder, original):
    def close(self):
        observer = recorder.of_loop(self)
        was_closed = self.is_closed()
        original(self)
        if observer is not None and not was_closed and not recorder._over:
            observer.closed()

    return close


# --- locks ---------------------------------------------------------------------------------------------------------------


def is_inside(task, lock):
    """Whether a suspended task is inside of ``async with lock``."""
    return any(subject is lock for coroutine in chain(task.get_coro()) for subject in entered(coroutine))
