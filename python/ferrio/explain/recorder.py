"""The events of one run, as plain dicts: numbers for tasks and timers, lines for places, a sentence for each.

One recorder serves all loops of the program; an `Observer` each tells it what happens. `emit` gets every event.
"""

import asyncio
import itertools
import os
import sys
import threading
import time
import traceback
import weakref

import ferrio

from .bill import Bill
from .callbacks import GENERATORS_END
from .observer import Observer
from .output import Output
from .places import Places
from .sentences import Sentences
from .waits import is_over

VERSION = 1


class Life:
    """What is known of one task. It does not keep the task alive."""

    def __init__(self, number, task, observer, inner):
        self.number = number
        self.name = ""
        self.observer = observer
        #: asyncio's own, which is only told to who asks for everything.
        self.inner = inner
        self.task = weakref.ref(task)
        self.state = "ready"
        self.begun = False
        #: When it was queued, in seconds of our own time, and when it began to wait, in those of the story.
        self.queued = None
        self.paused = None
        self.wait = None
        #: What it waits on: the id of the future and, for a lock and its like, of the object.
        self.future = None
        self.subject = None
        self.place = None
        self.within = None
        self.because = None
        #: What of the library's it awaits, and whether that may wake it before it is over.
        self.link = None
        self.call = None
        self.hops = False
        #: That it is ready, which is not told yet.
        self.news = None
        self.total = 0.0
        self.cancelling = 0

    def goes_on_inside(self):
        """Whether the library's call that the user's code awaits has not come to its end."""
        link = self.link() if self.link is not None else None
        return link is not None and not is_over(link)


class Recorder:
    """Makes events of what observers hear.

    :param emit: called with each event.
    :param virtual: loops run on virtual time unless the program says otherwise.
    :param everything: asyncio's inner tasks and callbacks, too.
    """

    def __init__(self, emit, *, virtual=False, everything=False):
        self._emit = emit
        self.virtual = virtual
        self.everything = everything
        self.places = Places()
        self.sentences = Sentences()
        self.bill = Bill()
        self.called = {}  # what asyncio calls a task, `Task-7` → its number in the story
        self.lives = {}  # id of a task → Life, while the task lives
        self.names = {}  # number → name
        self._taken = {}  # base name → how many have it
        self._numbers = itertools.count(1)
        self._timers = itertools.count(1)
        self._events = itertools.count(1)
        self._lock = threading.RLock()
        self._started = time.monotonic()
        #: Seconds that telling has cost: they are not the program's.
        self.spent = 0.0
        self._now = 0.0
        self.observers = weakref.WeakValueDictionary()  # thread → the Observer whose loop runs in it
        self._of_loops = weakref.WeakKeyDictionary()
        #: Lines that have been told of once.
        self.seen = set()
        #: Whether the interpreter warns of a coroutine of Python's.
        self.warning = False
        self._undo = []
        self._output = None
        self._over = False

    # --- from the beginning to the end -------------------------------------------------------------------------------

    def begin(self, program, source):
        """The program is about to run."""
        from .mistakes import watch

        self._started = time.monotonic()
        self._now = 0.0
        name = self.places.program(program, source) if source is not None or program.startswith("<") else program
        self._emit(
            {
                "event": "head",
                "version": VERSION,
                "program": os.path.basename(name) or name,
                "argv": sys.argv[1:],
                "python": sys.version.split()[0],
                "ferrio": ferrio.__version__,
                "clock": "virtual" if self.virtual else "real",
                "started": time.time(),
                "sources": dict.fromkeys(self.places.sources),
            }
        )
        self._output = Output(self.wrote)
        self._undo = [*watch(self), self._adopt_loops()]
        os.register_at_fork(after_in_child=self.leave)

    def _adopt_loops(self):
        """Every loop of ferrio's that the program makes is observed from its birth."""
        recorder, loops, original = self, ferrio.EventLoop, ferrio.EventLoop.__init__

        def __new__(cls, *arguments, clock=None, **keywords):
            clock = clock or ("virtual" if recorder.virtual and not recorder._over else "real")
            return super(loops, cls).__new__(cls, *arguments, clock=clock, **keywords)

        def __init__(loop, *, clock="real"):
            original(loop, clock=clock)
            if not recorder._over:
                recorder._of_loops[loop] = Observer(recorder, loop)

        loops.__new__, loops.__init__ = __new__, __init__

        def undo():
            del loops.__new__
            loops.__init__ = original

        return undo

    def leave(self):
        """From here on nothing is told any more; the program's output goes where it would have gone."""
        self._over = True
        if self._output is not None:
            self._output.close()
        for undo in reversed(self._undo):
            undo()
        self._undo = []

    def end(self, error):
        """The program is over; ``error`` is what it ended with, or None."""
        from .mistakes import left_behind

        if self._over:
            return
        left_behind(self)
        self.leave()
        now = self.now()
        self._over = False
        self.emit(None, self.bill.event(now, error))
        self._over = True

    # --- events ------------------------------------------------------------------------------------------------------

    def now(self, observer=None):
        """Seconds of the story."""
        if not self.virtual:
            return time.monotonic() - self._started
        if observer is not None:
            self._now = max(self._now, observer.now())
        return self._now

    def own_time(self):
        """Seconds for measuring what the program's own code takes: without what telling costs."""
        return time.perf_counter() - self.spent

    def emit(self, observer, event, *, at=None):
        """Completes an event and sends it on."""
        if self._over:
            return
        with self._lock:
            begun = time.perf_counter()
            try:
                if self._output is not None and event["event"] != "output":
                    self._output.pass_on()
                self._emit(self._complete(observer, event, at))
            except Exception:
                # The program is not to suffer from it.
                self.leave()
                traceback.print_exc()
                print("ferrio explain has failed here. The program runs on, untold.", file=sys.stderr)
            self.spent += time.perf_counter() - begun

    def _complete(self, observer, event, at):
        life = event.pop("life", None)
        complete = {"n": next(self._events), "t": round(self.now(observer) if at is None else at, 9)}
        if life is not None:
            if not life.name:
                self.baptise(life)
            complete |= {"task": life.number, "name": life.name}
        place = event.pop("place", None)
        complete |= event
        if place:
            complete |= place
        complete["text"] = self.sentences.of(complete, self.names)
        self.bill.note(complete)
        return complete

    def wrote(self, stream, text):
        """The program has written something."""
        observer = self.observers.get(threading.get_ident())
        event = {"event": "output", "output": text, "stream": stream}
        if observer is None:
            self.emit(None, event)
            return
        if observer.current is not None and not observer.current.inner:
            event["life"] = observer.current
        observer.tell(event)

    def of_loop(self, loop):
        """The observer of a loop; None if nobody observes it."""
        return self._of_loops.get(loop)

    # --- names and numbers -------------------------------------------------------------------------------------------

    def born(self, task, observer, inner):
        """A task that nobody has seen before."""
        number = 0 if inner and not self.everything else next(self._numbers)
        life = Life(number, task, observer, inner)
        key = id(task)
        self.lives[key] = life
        weakref.finalize(task, self._died, key, life).atexit = False
        return life

    def baptise(self, life):
        """A task gets the name that it has in the story."""
        task = life.task()
        life.name = self._name(task, life.inner) if task is not None else f"task {life.number}"
        if life.number:
            self.names[life.number] = life.name
            if isinstance(task, asyncio.Task):
                self.called[task.get_name()] = life.number

    def _died(self, key, life):
        if self.lives.get(key) is life:
            del self.lives[key]

    def _name(self, task, inner):
        coroutine = task.get_coro()
        name = getattr(coroutine, "__name__", None) or type(coroutine).__name__
        if name == GENERATORS_END:
            name = "aclose"
        own = task.get_name() if isinstance(task, asyncio.Task) else ""
        if own and not (own.startswith("Task-") and own[5:].isdigit()):
            name = own
        if inner:
            return name
        count = self._taken[name] = self._taken.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"

    def new_timer(self):
        return next(self._timers)
