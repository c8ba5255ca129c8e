"""Hears from one loop what happens in it (see ``EventLoop._observe``), and tells the recorder what of it is a story.

A loop's own errands (its transports, its inner tasks, the callbacks by which futures reach their tasks) are not told:
they are followed, so that what comes of them has its true cause.
"""

import asyncio
import sys
import weakref

from . import mistakes, places
from .callbacks import GENERATORS_END, is_inner, name_of, short_name, who_is_told
from .descriptors import Descriptors
from .sleep import Sleep
from .steps import Steps, task_of, told
from .timers import Timers
from .waits import Waits, taker

#: asyncio's own coroutines that it runs as tasks without being asked to.
_ERRANDS = {"shutdown_asyncgens", "shutdown_default_executor", "_cancel_all_tasks"}
_ERRAND_FILES = ("connecting.py", "servers.py", "sendfile.py")


class Observer(Steps):
    def __init__(self, recorder, loop):
        self.recorder = recorder
        self._loop = weakref.ref(loop)
        self.virtual = loop._clock_is_virtual
        self._base = recorder._now - loop.time()
        self.timers = Timers(self._loop, recorder.new_timer)
        self.descriptors = Descriptors(self._loop, self.virtual)
        self.waits = Waits(self)
        self.sleep = Sleep(self)
        self.jobs = {}  # id of a future → what its thread does
        self.working = {}  # id of such a future → the future, weakly
        #: Our own time (see Recorder.own_time) when the loop called.
        self.own_now = recorder.own_time()
        #: The step that runs, the life of the task whose it is, and that task.
        self.step = None
        #: The frame that runs the loop: what is outside of it has nothing to do with the step.
        self.floor = None
        self.current = None
        self._task = None
        self._step_began = 0.0
        self.step_cause = None
        self._callback = None  # what runs, if it is no task
        self.began_at = None
        self.calls = []  # what the current step has called that may block: (time, what, file, line)
        self._causes = {}  # number of a step → the cause that it hands on
        self._waiting_on = {}  # id of a future → Life
        self._held = None  # what is told of the step's task as soon as it is known to matter
        self._newborn = []
        self._by_end = []  # whom the end of the current task makes ready
        self._tells = []
        self._again = None  # the current task was put back into the queue: when
        self._scheduled = {}  # id of a handle → (how, place) of a callback of the user's
        loop._observe(self)
        self.tell({"event": "loop", "what": "made"})

    # --- for others --------------------------------------------------------------------------------------------------

    @property
    def loop(self):
        return self._loop()

    def now(self):
        return self._base + self.loop.time() if self.virtual and self.loop is not None else self.recorder._now

    def tell(self, event):
        """Passes an event on. What was held back comes first."""
        if event["event"] != "asleep":
            self.sleep.tell_end()
        self.deliver()
        self.surface()
        self.recorder.emit(self, event)

    def life(self, task):
        return self.recorder.lives.get(id(task))

    def number(self, task):
        life = self.life(task)
        return life.number or None if life is not None else None

    def lives(self):
        return [life for life in list(self.recorder.lives.values()) if life.observer is self]

    def running_jobs(self):
        """What threads do of which nobody has heard the end."""
        futures = [(reference(), self.jobs.get(key)) for key, reference in list(self.working.items())]
        return [job for future, job in futures if job is not None and future is not None and not future.done()]

    def is_told(self, life):
        return not life.inner or self.recorder.everything

    def holder(self, lock):
        """The number of the task that has a lock (None if that cannot be seen), and whether it has finished."""
        task, name, _ = taker(lock) or (None, None, None)
        if name is not None and task is None:
            return {"holder": self.recorder.called.get(name), "finished": True}
        life = self.life(task) if task is not None else self._inside(lock)
        number = life.number or None if life is not None else None
        return {"holder": number, "finished": True} if task is not None and task.done() else {"holder": number}

    def _inside(self, lock):
        """The life of the task that is inside of ``async with lock``."""
        for life in self.lives():
            task = life.task()
            if task is None or life is self.current or life.subject == id(lock) or not life.number:
                continue
            if mistakes.is_inside(task, lock):
                return life
        return None

    # --- the ready queue ---------------------------------------------------------------------------------------------

    @told
    def queued(self, subject, kind, payload):
        cause = self._cause(kind, payload)
        self.sleep.note(kind, payload, cause)
        task = task_of(subject)
        if task is None:
            self._queued_callback(subject, kind)
            return
        self.meet([task])
        life = self.life(task)
        if life is None:
            self._birth(task, kind)
        elif life is self.current and not task.done():
            self._again = self.own_now
        elif life.state == "waiting":
            if self._is_ending() and life.future == id(self._task):
                self._by_end.append((life, cause))
                if not life.inner:
                    self._tells.append(life.number)
            else:
                self._ready(life, task, cause)

    def _is_ending(self):
        return self._task is not None and self._task.done()

    def _birth(self, task, kind):
        frame = places.here(3, self.floor)
        inner = self._is_errand(task, frame)
        life = self.recorder.born(task, self, inner)
        life.queued = self.own_now
        if not self.is_told(life):
            return
        event = {"event": "queued", "life": life, "by": {"loop": True}}
        if frame is not None:
            event["place"] = self.recorder.places.of_frame(frame)
            event["call"] = self.recorder.places.call(frame)
        if self.current is not None and (frame is not None or self.current.number):
            event["by"] = {"task": self.current.number}
        elif frame is None and type(task.get_coro()).__name__ == GENERATORS_END:
            event["because"] = {"kind": "generator"}
        elif self.step is not None:
            event["because"] = self.step_cause
        elif frame is None:
            event["because"] = {"kind": "outside"}
        event["ready"] = self.line_up()
        unkept = (
            frame is not None
            and self.current is not None
            and not inner
            and places.discards(frame)
            and places.calls_asyncio(frame, 3)
        )
        self._newborn.append((life, event, (event["place"], frame.f_code) if unkept else None))

    def deliver(self):
        """Tasks that were just made are told of now: by now they have the name that the program gives them."""
        while self._newborn:
            life, event, unkept = self._newborn.pop(0)
            self.recorder.baptise(life)
            self.surface()
            self.sleep.tell_end()
            self.recorder.emit(self, event)
            if unkept is not None:
                mistakes.unkept(self, life, *unkept)

    def _is_errand(self, task, frame):
        code = getattr(task.get_coro(), "cr_code", None)
        if code is None or places.owner(code.co_filename) != "asyncio":
            return False
        if code.co_name in _ERRANDS or code.co_name.startswith("_") or code.co_filename.endswith(_ERRAND_FILES):
            return True
        # One that another coroutine of asyncio's has made, for itself.
        inner = sys._getframe(4)
        while inner is not None and inner is not frame and inner is not self.floor:
            if inner.f_code.co_flags & 0x80 and inner.f_code.co_name not in {"wait_for"}:
                return True
            inner = inner.f_back
        return False

    def line_up(self):
        """The numbers of the tasks in the ready queue, in its order."""
        ready = [life for life in self.lives() if life.state == "ready" and life.number]
        return [life.number for life in sorted(ready, key=lambda life: life.queued)][:50]

    def _ready(self, life, task, cause):
        life.state = "ready"
        life.queued = self.own_now
        who = self._cancellations(life, task)
        if who:
            cause = {"kind": "cancel", **who}
        elif cause.get("task") == life.number:
            # It was itself: the last of its own errands has come back.
            cause = {"kind": "outside"}
        life.because = cause
        if not who:
            self.recorder.bill.waited(self.recorder.now(self), life)
        if not self.is_told(life):
            return
        event = {"event": "ready", "life": life, "because": cause, "waits": life.wait}
        raises = self._raises(life, task)
        if raises and not who:
            event["raises"] = raises
        by_current = self.current is not None and cause.get("task") == self.current.number
        frame = places.here(3, self.floor) if by_current else None
        if frame is not None:
            event["place"] = self.recorder.places.of_frame(frame)
        event["ready"] = self.line_up()
        if life.hops and not who:
            # asyncio's own part of what it awaits may not be over: see `surface`.
            life.news = event
        else:
            self.tell(event)

    # --- cancellation ------------------------------------------------------------------------------------------------

    def _cancellations(self, life, task, when=None):
        """Tells of a cancellation that nobody has been told of; returns who asked for it, or None. ``when`` says in which
        state the task was asked, if it did not wait."""
        asked = self._newly_cancelled(task)
        if not asked:
            return None
        by = self._who_cancels(life, when)
        frame = places.here(3, self.floor)
        place = self.recorder.places.of_frame(frame) if frame is not None and self.current is not None else None
        closing = _is_in("_cancel_all_tasks")
        for each in asked:
            if not self.is_told(each):
                continue
            if closing:
                mistakes.pending_at_exit(self, [each], cancelled=True)
                continue
            event = {"event": "cancel", "life": each, "by": by}
            if place:
                event["at"] = place
            if when is not None:
                event["when"] = when
            self.tell(event)
        return by

    def _newly_cancelled(self, task):
        """The lives of a task and of those that wait for it, outermost first, that were asked to end since they were last
        looked at."""
        found = []
        while task is not None:
            life = self.life(task)
            if life is None or not hasattr(task, "cancelling") or task.cancelling() <= life.cancelling:
                break
            life.cancelling = task.cancelling()
            found.append(life)
            waiter = self._waiting_on.get(id(task))
            task = waiter.task() if waiter is not None else None
        return found[::-1]

    def _who_cancels(self, life, when):
        if self.current is not None and (self.current is not life or when == "running"):
            return {"task": self.current.number}
        if self.current is not None:
            # It was asked before it ran: by whom only what it awaits may tell.
            by = life.because if life.because is not None and life.because["kind"] == "task" else {}
            return {"task": by["task"]} if by and by["task"] != life.number else {"loop": True}
        cause = self.step_cause or {"kind": "outside"}
        if self._callback is not None and name_of(self._callback) == "TaskGroup._on_task_done":
            return {"group": True, "because_of": cause.get("task")}
        return {"timer": cause["timer"]} if cause.get("kind") == "timer" and cause["timer"] else {"loop": True}

    # --- callbacks ---------------------------------------------------------------------------------------------------

    def _queued_callback(self, subject, kind):
        if not isinstance(subject, asyncio.Handle):
            return
        callback = subject._callback
        if self._is_ending() and subject._args and subject._args[0] is self._task:
            word = who_is_told(callback)
            if word:
                self._tells.append(word)
                self._scheduled[id(subject)] = "add_done_callback", None
        elif kind != "timer" and not self._is_inner(subject):
            self._note_callback(subject, "call_soon")

    @staticmethod
    def _is_inner(handle):
        # The loop closes async generators that were left by itself.
        return is_inner(handle._callback) or any(type(each).__name__ == GENERATORS_END for each in handle._args or ())

    def _note_callback(self, handle, how):
        frame = places.here(3, self.floor)
        self._scheduled[id(handle)] = how, self.recorder.places.of_frame(frame) if frame is not None else None

    def _run_callback(self, subject, cause):
        if not isinstance(subject, asyncio.Handle):
            if self.recorder.everything and subject is not None:
                self._tell_callback(type(subject).__name__, True, cause, None, None)
            return
        how, place = self._scheduled.pop(id(subject), (None, None))
        callback = self._callback = subject._callback
        if callback is None:
            return
        inner = self._is_inner(subject)
        if not inner:
            self._causes[self.step] = {"kind": "callback", "what": short_name(callback), "because": cause}
        if not inner or self.recorder.everything:
            self._tell_callback(name_of(callback) if inner else short_name(callback), inner, cause, how, place)

    def _tell_callback(self, what, inner, cause, how, place):
        why = self.recorder.sentences.why(what) if inner else how
        event = {"event": "callback", "what": what, "inner": inner, "because": cause, "why": why}
        if place:
            event["place"] = place
        self.tell(event)

    # --- timers and sleeping -----------------------------------------------------------------------------------------

    @told
    def timer_set(self, number, when, subject):
        if self.timers.set(number, when, subject, self.current).calls:
            self._note_callback(subject, "call_later")

    @told
    def timer_gone(self, number):
        self.timers.forget(number)

    @told
    def sleeps(self, timer):
        self.deliver()
        self.sleep.begin(timer)

    @told
    def wakes(self):
        self.sleep.end()

    def _cause(self, kind, payload):
        """A Cause, from what the loop says of it."""
        if kind == "step":
            return self._causes.get(payload) or {"kind": "outside"}
        if kind == "timer":
            timer = self.timers.get(payload)
            cause = {"kind": "timer", "timer": timer.number if timer is not None else None}
            if timer is not None:
                timer.fired = True
                if timer.limit:
                    cause["limit"] = True
            return cause
        if kind == "descriptor":
            return {"kind": "socket", **self.descriptors.about(payload >> 1, "write" if payload & 1 else "read")}
        if kind == "signal":
            return {"kind": "signal", "number": payload}
        if kind == "child":
            return {"kind": "child", "pid": payload}
        return {"kind": kind}

    # --- the end -----------------------------------------------------------------------------------------------------

    def closed(self):
        pending = [life for life in self.lives() if life.state in {"waiting", "ready"} and life.number]
        if pending:
            mistakes.pending_at_exit(self, pending)
        self.tell({"event": "loop", "what": "closed"})


def _is_in(name):
    """Whether a function of asyncio's is being called now."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == name and places.owner(frame.f_code.co_filename) == "asyncio":
            return True
        frame = frame.f_back
    return False
