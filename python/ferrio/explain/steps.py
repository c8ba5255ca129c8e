"""What a task does in a step: begin, go on, give the thread back, finish. A step of which nothing is to be told (asyncio's
own part of what the task awaits has gone on) is held back until it is known to matter.
"""

import asyncio
import functools
import sys
import threading
import time

from . import mistakes, places
from .callbacks import is_inner, outcome
from .waits import HOPS, Stand, leaves

#: So many steps back the cause of a step is remembered.
_MEMORY = 100_000


def told(method):
    """A method that the loop calls. What telling costs is not the program's time."""
    begins = method.__name__ == "begins"

    @functools.wraps(method)
    def call(self, *arguments):
        recorder = self.recorder
        if recorder._over:
            return
        begun, spent = time.perf_counter(), recorder.spent
        self.own_now = begun - spent
        try:
            method(self, *arguments)
        finally:
            # (Telling within telling has counted itself.)
            recorder.spent = spent + time.perf_counter() - begun
            if begins:
                self._step_began = recorder.own_time()

    return call


class Steps:
    """The part of an Observer that hears of steps."""

    @told
    def begins(self, number, subject, kind, payload):
        self.deliver()
        cause = self._cause(kind, payload)
        if kind == "timer":
            self.timers.forget(payload)
        self.step, self.step_cause, self.floor = number, cause, sys._getframe(2)
        self._causes[number] = cause
        self._causes.pop(number - _MEMORY, None)
        self.recorder.observers[threading.get_ident()] = self
        self.calls.clear()
        self._again = None
        task = task_of(subject)
        life = self.life(task) if task is not None else self._waiting_on.get(id(subject))
        if life is None and task is not None:
            life = self.recorder.born(task, self, False)
            self.recorder.baptise(life)
        if life is None:
            self._run_callback(subject, cause)
            return
        self.current, self._task = life, task or life.task()
        if not life.inner:
            self._causes[number] = {"kind": "task", "task": life.number, "step": number}
        if task is None:
            # A native operation that a task awaits goes on; it may come to its end and let the task go on.
            life.because = cause
        self._run_task(life, self._task, by_operation=task is None)
        self.began_at = life.place

    def _run_task(self, life, task, by_operation):
        waited = 0.0 if self.virtual or life.queued is None else max(0.0, self.own_now - life.queued)
        if by_operation and life.state == "waiting":
            life.news = {
                "event": "ready",
                "life": life,
                "because": life.because,
                "waits": life.wait,
                "ready": [life.number],
            }
            if life.because.get("task") == life.number:
                life.news["because"] = {"kind": "outside"}
            self.recorder.bill.waited(self.recorder.now(self), life)
            waited = 0.0
        unseen = life.state == "waiting" and not by_operation
        if unseen:
            # By a signal's handler, for one: within the operating system's call the loop says nothing.
            life.because, life.queued, waited = self.step_cause, None, 0.0
        when = None if by_operation or unseen else "ready"
        asked = self._cancellations(life, task, when) if self.is_told(life) and task is not None else None
        if asked:
            life.news = None
        event = {"life": life, "waited": round(waited, 9), "step": self.step}
        if life.begun:
            event |= {"event": "resume", "place": life.place, "because": life.because}
            if life.within:
                event["within"] = life.within
        else:
            event["event"] = "start"
            place = self._beginning(task)
            if place is not None:
                event["place"] = life.place = place
        raises = self._raises(life, task)
        if raises:
            event["raises"] = raises
        self._waiting_on.pop(life.future, None)
        life.state = "running"
        life.subject = None
        self._held = life, event
        if not life.begun:
            life.begun = True
            self.surface()

    def _beginning(self, task):
        """The first line of a task's own code, or None."""
        code = getattr(task.get_coro(), "cr_code", None) if task is not None else None
        if code is None or places.owner(code.co_filename) == "asyncio":
            return None
        return self.recorder.places.at(code.co_filename, code.co_firstlineno)

    def _raises(self, life, task):
        """The name of the exception that a task's await is about to raise, or None."""
        if task is None or task.done():
            return None
        if getattr(task, "_must_cancel", False):
            return "CancelledError"
        if not life.begun:
            return None
        future = task._fut_waiter
        if not isinstance(future, asyncio.Future) or not future.done():
            return None
        if future.cancelled():
            return "CancelledError"
        return type(future._exception).__name__ if future._exception is not None else None

    def surface(self):
        """What was held back of the task that runs is told now: that something is to be told shows that it matters."""
        if self._held is None:
            return
        (life, event), self._held = self._held, None
        news, life.news = life.news, None
        if not self.is_told(life):
            return
        if news is not None:
            self.sleep.tell_end()
            self.recorder.emit(self, news)
        if event["event"] == "resume" and life.goes_on_inside():
            event["inside"] = True
            event.pop("raises", None)
        self.sleep.tell_end()
        self.recorder.emit(self, event)

    @told
    def ends(self, number):
        took = self.own_now - self._step_began
        life, task = self.current, self._task
        self.deliver()
        self._eager(task)
        if life is not None and task is not None:
            self._end_of_step(life, task, took)
        mistakes.blocked(self, life, took)
        self.current = self.step = self.floor = self._task = self.step_cause = self._callback = None
        by_end, self._by_end = self._by_end, []
        for waiter, cause in by_end:
            waiting = waiter.task()
            if waiting is not None:
                self._ready(waiter, waiting, cause)

    def _eager(self, task):
        """Tells of tasks that have begun within the step that made them: no queue has seen them. (Those that have ended there,
        too, have waited for nothing.)"""
        loop = self.loop
        if loop is None:
            return
        seen = [] if loop.get_task_factory() is None else asyncio.all_tasks(loop)
        awaited = getattr(task, "_fut_waiter", None)
        awaited = [awaited, *getattr(awaited, "_children", ())]  # (of a gather)
        self.meet({*seen, *(each for each in awaited if isinstance(each, asyncio.Task) and each.get_loop() is loop)})

    def meet(self, tasks):
        """Tells of those of the tasks that nobody has seen and that wait already, perhaps for each other."""
        tasks = [each for each in tasks if self.life(each) is None and getattr(each.get_coro(), "cr_suspended", False)]
        tasks.sort(key=lambda each: (len(each.get_name()), each.get_name()))
        lives = [self.recorder.born(task, self, self._is_errand(task, None)) for task in tasks]
        for life in lives:
            self.recorder.baptise(life)
            life.begun, life.state = True, "waiting"
        for life, task in zip(lives, tasks):
            self._begun_eagerly(life, task)

    def _begun_eagerly(self, life, task):
        if self.is_told(life):
            by = {"task": self.current.number} if self.current is not None and self.current.number else {"loop": True}
            self.tell({"event": "queued", "life": life, "by": by, "eager": True, "ready": self.line_up()})
            event = {"event": "start", "life": life, "waited": 0.0, "step": self.step}
            place = self._beginning(task)
            self.tell(event | ({"place": place} if place is not None else {}))
        life.paused = self.recorder.now(self)
        stand, (again, self._again) = Stand(task), (self._again, None)
        self._pause(life, task, stand, 0.0, stand.future is None)  # None: what it has waited for is over.
        self._again = again

    def _end_of_step(self, life, task, took):
        ran = 0.0 if self.virtual else max(1e-6, round(took, 9))
        life.total += ran
        self.recorder.bill.ran(life, ran)
        if task.done():
            self.surface()
            self._finish(life, task, ran)
            return
        self._cancellations(life, task, "running")
        stand = Stand(task)
        is_hop = self._held is not None and life.news is not None and life.goes_on_inside()
        if is_hop:
            # Only asyncio's own part of what it awaits has gone on, and that it was ready is not told: in the story it waits on.
            self._held = life.news = None
        self.surface()
        self._pause(life, task, stand, ran, is_hop)

    def _pause(self, life, task, stand, ran, silently):
        self._stands(life, task, stand)
        if self._again is not None:
            life.state, life.queued, life.because = "ready", self._again, {"kind": "turn"}
        else:
            life.state = "waiting"
            if not silently:
                life.paused = self.recorder.now(self)
        if silently or not self.is_told(life):
            return
        event = {"event": "pause", "life": life, "ran": ran, "waits": life.wait, "place": life.place}
        if life.within:
            event["within"] = life.within
        self.tell(event)

    def _stands(self, life, task, stand):
        """Notes where a suspended task stands, and what it waits for."""
        life.place, life.within = self._place(stand)
        life.link = stand.link
        life.call = stand.calls[0][0] if stand.calls else None
        life.hops = any(name in HOPS for name, *_ in stand.calls)
        life.future = id(stand.future) if stand.future is not None else None
        if self._again is not None and stand.future is None:
            life.wait = {"kind": "turn"}
        else:
            life.wait = self.waits.of(task, stand)
        if life.future is not None:
            self._waiting_on[life.future] = life
        life.subject = id(stand.subject()) if life.wait["kind"] in {"lock", "any"} else None
        for wait in leaves(life.wait):
            if wait["kind"] == "socket" and wait["direction"] == "read":
                self.descriptors.keep_time(wait["fd"])

    def _place(self, stand):
        """Where a task stands, and through which functions of the user's it has come there."""
        own = [frame for frame in stand.frames if places.is_users(frame.f_code)] or stand.frames
        if not own:
            return None, None
        within = [
            {"function": inner.f_code.co_name, **(self.recorder.places.of_frame(outer) or {})}
            for outer, inner in zip(own, own[1:])
        ]
        return self.recorder.places.awaited(own[-1]), within

    def _finish(self, life, task, ran):
        life.state = "done"
        tells, self._tells = self._tells, []
        if not self.is_told(life):
            return
        how, value = outcome(task)
        event = {
            "event": "finish",
            "life": life,
            "outcome": how,
            "value": value,
            "ran": ran,
            "total": round(life.total, 9),
        }
        for other in self.lives():
            wait = other.wait
            if other.state == "waiting" and wait and wait["kind"] == "gather" and life.number in wait["tasks"]:
                waiter = other.task()
                children = getattr(waiter and waiter._fut_waiter, "_children", ())
                event["gather"] = {
                    "done": sum(child.done() for child in children),
                    "of": len(children),
                    "task": other.number,
                }
            if other.call == "wait_for" and any(life.number in leaf.get("tasks", ()) for leaf in leaves(wait)):
                # It may wait as asyncio.wait() does.
                tells = ["wait_for" if who == "asyncio.wait" else who for who in tells]
        # (asyncio.run() gathers what it cancels at the end; nobody wants to know.)
        if life.inner:
            event["inner"] = True
        event["tells"] = [who for who in tells if who != "gather" or "gather" in event]
        self.tell(event)


def task_of(subject):
    """The task that an entry of the ready queue is a step of, or None."""
    if isinstance(subject, asyncio.Task):
        return subject
    if isinstance(subject, asyncio.Handle):
        # Where a task's steps go through handles: on loops of the program's own class, and in debug mode.
        owner = getattr(subject._callback, "__self__", None)
        if isinstance(owner, asyncio.Task) and is_inner(subject._callback):
            return owner
    return None
