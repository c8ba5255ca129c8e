"""Sample runs for the page's tests, as ``ferrio explain --json`` would write them, made without running anything."""

import textwrap

TUTORIAL = textwrap.dedent('''\
    import asyncio


    async def task_a():
        print("A: asking the slow API")
        await asyncio.sleep(2)  # pretend that it takes two seconds
        print("A: answered")
        return "a"


    async def task_b():
        print("B: asking the quick API")
        await asyncio.sleep(1)
        print("B: answered")
        return "b"


    async def main():
        """Ask both at once."""
        print("main: start")
        answers = await asyncio.gather(task_a(), task_b())
        print(f"main: got {answers}")


    asyncio.run(main())
    ''')

ECHO = textwrap.dedent("""\
    import asyncio


    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()


    async def ask(word, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{word}\\n".encode())
        async with asyncio.timeout(5):
            answer = await reader.readline()
        print(answer.decode().strip())
        writer.close()


    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            await ask("hello", port)


    asyncio.run(main())
    """)

BLOCKING = textwrap.dedent("""\
    import asyncio
    import time


    async def heartbeat():
        for _ in range(3):
            await asyncio.sleep(0.1)
            print("still alive")


    async def report():
        await asyncio.sleep(0.05)
        time.sleep(2)  # the mistake
        return 42


    async def audit():
        print("never awaited")


    async def main():
        beat = asyncio.create_task(heartbeat())
        audit()
        print(await report())
        await beat


    asyncio.run(main())
    """)

WORKERS = textwrap.dedent("""\
    import asyncio


    async def produce(queue, items):
        for item in range(items):
            await queue.put(item)


    async def consume(queue, lock, seen):
        while True:
            item = await queue.get()
            async with lock:
                seen.append(item)
            queue.task_done()


    async def main():
        queue, lock, seen = asyncio.Queue(maxsize=4), asyncio.Lock(), []
        consumers = [asyncio.create_task(consume(queue, lock, seen)) for _ in range(6)]
        await produce(queue, 500)
        await queue.join()
        for consumer in consumers:
            consumer.cancel()
        await asyncio.gather(*consumers, return_exceptions=True)


    asyncio.run(main())
    """)


class Recorder:
    """Writes the events of a run that is told to it, and keeps the clock."""

    def __init__(self, file, text, clock="real"):
        self.file, self.lines, self.t, self.names, self.ran = file, text.splitlines(), 0.0, {}, {}
        self.since = {}
        self.timers = 0
        self.events = [
            {
                "event": "head",
                "version": 1,
                "program": file,
                "argv": [file],
                "python": "3.13.0",
                "ferrio": "0.1.0",
                "clock": clock,
                "started": 1764085000.123,
                "sources": {file: text},
            }
        ]

    def write(self, event, text, task=None, line=None, **fields):
        wholes = {"n": len(self.events), "t": round(self.t, 7), "event": event, "text": text}
        if task is not None:
            wholes |= {"task": task, "name": self.names[task]}
        if line is not None:
            wholes |= {"file": self.file, "line": line, "code": self.lines[line - 1].strip()}
        self.events.append(wholes | fields)

    def passes(self, microseconds):
        self.t += microseconds / 1e6

    def line_of(self, code):
        return next(number for number, line in enumerate(self.lines, 1) if code in line)

    def queued(self, task, name, by=None, code=None):
        self.passes(9)
        self.names[task] = name
        self.since[task] = self.t
        line = self.line_of(code) if code else None
        text = (
            f"{name} is queued: {self.names[by]}, line {line}, makes it a task."
            if by
            else f"{name} is queued: asyncio.run() makes it a task."
        )
        self.write("queued", text, task, line, by={"task": by} if by else {"loop": True})

    def start(self, task, code):
        self.passes(12)
        line = self.line_of(code)
        waited = self.t - self.since[task]
        text = f"{self.names[task]} starts at line {line}."
        self.write("start", text, task, line, waited=waited)
        self.since[task] = self.t

    def resume(self, task, code, step=0):
        self.passes(14)
        line = self.line_of(code)
        waited = self.t - self.since[task]
        text = f"{self.names[task]} continues at line {line}, after the await."
        self.write("resume", text, task, line, waited=waited, step=step)
        self.since[task] = self.t

    def _stop(self, task):
        self.passes(17)
        ran = self.t - self.since[task]
        self.ran[task] = self.ran.get(task, 0) + ran
        self.since[task] = self.t
        return ran

    def pause(self, task, code, waits, until):
        ran = self._stop(task)
        line = self.line_of(code)
        text = f"{self.names[task]} line {line}, `{self.lines[line - 1].strip()}`: gives the thread back. {until}"
        self.write("pause", text, task, line, ran=ran, waits=waits)

    def sleeps(self, task, code, seconds):
        self.timers += 1
        wait = {"kind": "timer", "timer": self.timers, "in": seconds}
        self.pause(task, code, wait, f"It will be woken by timer {self.timers}, in {seconds:.3f} s.")
        return self.timers

    def asleep(self, until=None, watches=()):
        self.passes(8)
        self.night = self.t
        text = "The loop has nobody ready. It asks the operating system to wake it"
        text += f" when timer {until['timer']} is due." if until else " when a socket has news."
        self.write("asleep", text, until=until, watches=list(watches))

    def awake(self, microseconds, text, by, late=None):
        self.passes(microseconds)
        self.write(
            "awake", f"The loop wakes. {text}", slept=self.t - self.night, by=by, **({"late": late} if late else {})
        )

    def ready(self, task, because, text):
        self.passes(11)
        self.since[task] = self.t
        self.write("ready", text, task, because=because)

    def prints(self, task, output):
        self.passes(5)
        self.write("output", output.rstrip("\n"), task, output=output, stream="stdout")

    def finish(self, task, value="None", outcome="returned", tells=()):
        ran = self._stop(task)
        text = (
            f"{self.names[task]} finished, {outcome} {value}."
            if outcome != "cancelled"
            else f"{self.names[task]} is cancelled."
        )
        self.write("finish", text, task, outcome=outcome, value=value, ran=ran, total=self.ran[task], tells=list(tells))

    def bill(self, asleep, one_by_one, chains):
        self.write("loop", "The loop is closed.", what="closed")
        self.write(
            "bill",
            f"THE BILL {self.t:.3f} s of your life",
            elapsed=self.t,
            ran={str(task): ran for task, ran in self.ran.items()},
            python=sum(self.ran.values()),
            asleep=asleep,
            one_by_one=one_by_one,
            chains=chains,
        )
        return self.events


def tutorial():
    """Two sleeps, gathered."""
    run = Recorder("tutorial.py", TUTORIAL)
    run.write("loop", "The loop is made. It has nothing to do yet.", what="made")
    run.queued(1, "main")
    run.start(1, "async def main")
    run.prints(1, "main: start\n")
    run.queued(2, "task_a", by=1, code="gather(")
    run.queued(3, "task_b", by=1, code="gather(")
    gather = {"kind": "gather", "tasks": [2, 3], "done": 0, "of": 2}
    run.pause(1, "gather(", gather, "The results are not there. It will be woken by gather, when 2 of 2 are done.")
    run.start(2, "async def task_a")
    run.prints(2, "A: asking the slow API\n")
    run.sleeps(2, "sleep(2)", 2.0)
    run.start(3, "async def task_b")
    run.prints(3, "B: asking the quick API\n")
    run.sleeps(3, "sleep(1)", 1.0)
    run.asleep({"timer": 2, "in": 1.0, "task": 3})
    run.awake(1_000_130, "Timer 2 rang, 0.13 ms late.", [{"kind": "timer", "timer": 2}], 0.00013)
    run.ready(3, {"kind": "timer", "timer": 2}, "task_b is queued: timer 2 was its own.")
    run.resume(3, "sleep(1)")
    run.prints(3, "B: answered\n")
    run.finish(3, "'b'", tells=["gather"])
    run.asleep({"timer": 1, "in": 0.999, "task": 2})
    run.awake(999_600, "Timer 1 rang, 0.09 ms late.", [{"kind": "timer", "timer": 1}], 0.00009)
    run.ready(2, {"kind": "timer", "timer": 1}, "task_a is queued: timer 1 was its own.")
    run.resume(2, "sleep(2)")
    run.prints(2, "A: answered\n")
    run.finish(2, "'a'", tells=["gather"])
    run.ready(1, {"kind": "task", "task": 2, "step": 7}, "main is queued: gather has 2 of 2.")
    run.resume(1, "gather(")
    run.prints(1, "main: got ['a', 'b']\n")
    run.finish(1)
    return run.bill(1.9997, 3.0, [[{"kind": "timer", "timer": 2}, 3], [{"kind": "timer", "timer": 1}, 2, 1]])


def echo():
    """A client and a server in one program: sockets, and a time-out around a read."""
    run = Recorder("echo.py", ECHO)
    run.write("loop", "The loop is made. It has nothing to do yet.", what="made")
    run.queued(1, "main")
    run.start(1, "async def main")
    connect = {"kind": "socket", "fd": 8, "direction": "write", "peer": "127.0.0.1:40123"}
    run.pause(1, "open_connection", connect, "It will be woken when socket 8 is connected.")
    run.asleep(watches=[{"fd": 8, "direction": "write", "peer": "127.0.0.1:40123", "task": 1}])
    run.awake(60, "Socket 8 is connected.", [{"kind": "socket", "fd": 8, "direction": "write"}])
    run.ready(1, {"kind": "socket", "fd": 8, "direction": "write"}, "main is queued.")
    run.queued(2, "serve")
    run.resume(1, "open_connection")
    reading = {"kind": "socket", "fd": 8, "direction": "read", "peer": "127.0.0.1:40123"}
    run.pause(
        1,
        "answer = await",
        {"kind": "any", "of": [reading, {"kind": "timer", "timer": 1, "in": 5.0}]},
        "No bytes yet. It will be woken by socket 8 (127.0.0.1:40123), or by timer 1 in 5.000 s.",
    )
    run.start(2, "async def serve")
    peer = {"kind": "socket", "fd": 9, "direction": "read", "peer": "127.0.0.1:51544"}
    run.pause(2, "while line", peer, "No whole line yet. It will be woken by socket 9 (127.0.0.1:51544).")
    run.asleep(
        {"timer": 1, "in": 5.0, "task": 1},
        [{"fd": 8, "direction": "read", "task": 1}, {"fd": 9, "direction": "read", "task": 2}],
    )
    text = "WHO KNEW? The kernel did: 6 bytes for socket 9 arrived, and it woke the loop 0.02 ms later."
    run.awake(90, text, [{"kind": "socket", "fd": 9, "direction": "read"}])
    run.ready(2, {"kind": "socket", "fd": 9, "direction": "read"}, "serve is queued: the line it waits for is there.")
    run.resume(2, "while line")
    run.pause(2, "while line", peer, "No whole line yet. It will be woken by socket 9 (127.0.0.1:51544).")
    run.asleep({"timer": 1, "in": 4.99, "task": 1})
    run.awake(48, "6 bytes for socket 8 arrived.", [{"kind": "socket", "fd": 8, "direction": "read"}])
    run.ready(1, {"kind": "socket", "fd": 8, "direction": "read"}, "main is queued.")
    run.resume(1, "answer = await")
    run.prints(1, "HELLO\n")
    run.write("cancel", "main asks serve to end.", 2, by={"task": 1}, at={"file": "echo.py", "line": 23})
    run.finish(1)
    run.ready(2, {"kind": "cancel", "task": 1}, "serve is queued, to be cancelled.")
    run.resume(2, "while line")
    run.finish(2, "", "cancelled")
    return run.bill(0.0002, 0.0003, [[{"kind": "socket", "fd": 9, "direction": "read"}, 2]])


def blocking():
    """time.sleep() in a coroutine, and a coroutine that nobody awaits."""
    run = Recorder("report.py", BLOCKING)
    run.write("loop", "The loop is made. It has nothing to do yet.", what="made")
    run.queued(1, "main")
    run.start(1, "async def main")
    run.queued(2, "heartbeat", by=1, code="beat = ")
    run.passes(4)
    run.write(
        "mistake",
        "line 24: audit() was called but never awaited: nothing of it has run.\nWrite `await audit()`.",
        1,
        24,
        kind="never-awaited",
        cost=0,
        victims=[],
    )
    timer = run.sleeps(1, "sleep(0.05)", 0.05)
    run.start(2, "async def heartbeat")
    beat = run.sleeps(2, "sleep(0.1)", 0.1)
    run.asleep({"timer": timer, "in": 0.05, "task": 1})
    run.awake(50_040, f"Timer {timer} rang.", [{"kind": "timer", "timer": timer}], 0.00004)
    run.ready(1, {"kind": "timer", "timer": timer}, "main is queued.")
    run.resume(1, "sleep(0.05)")
    run.passes(2_000_110)
    run.write(
        "mistake",
        "time.sleep(2) kept the thread for 2.000 s; the loop could do nothing else.\n"
        "1 task was due and had to wait. Write `await asyncio.sleep(2)`, or `await asyncio.to_thread(…)`.",
        1,
        13,
        kind="blocked",
        cost=2.0001,
        victims=[2],
    )
    run.prints(1, "42\n")
    run.pause(1, "await beat", {"kind": "task", "tasks": [2]}, "It will be woken when heartbeat ends.")
    run.ready(2, {"kind": "timer", "timer": beat}, "heartbeat is queued: its timer was due 1.950 s ago.")
    for _ in range(2):
        run.resume(2, "sleep(0.1)")
        run.prints(2, "still alive\n")
        beat = run.sleeps(2, "sleep(0.1)", 0.1)
        run.asleep({"timer": beat, "in": 0.1, "task": 2})
        run.awake(100_060, f"Timer {beat} rang.", [{"kind": "timer", "timer": beat}], 0.00006)
        run.ready(2, {"kind": "timer", "timer": beat}, "heartbeat is queued.")
    run.resume(2, "sleep(0.1)")
    run.prints(2, "still alive\n")
    run.finish(2)
    run.ready(1, {"kind": "task", "task": 2, "step": 9}, "main is queued: heartbeat has ended.")
    run.resume(1, "await beat")
    run.finish(1)
    return run.bill(0.2503, 0.35, [[{"kind": "timer", "timer": beat}, 2, 1]])


def workers(length=2000, consumers=6):
    """Somebody puts, others get, all through a lock: about `length` events."""
    run = Recorder("workers.py", WORKERS, clock="virtual")
    run.write("loop", "The loop is made. It has nothing to do yet.", what="made")
    run.queued(1, "main")
    run.start(1, "async def main")
    everyone = range(2, 2 + consumers)
    for k, task in enumerate(everyone):
        run.queued(task, "consume" if k == 0 else f"consume#{k + 1}", by=1, code="consumers = ")
    get = {"kind": "queue-get", "on": "Queue maxsize=4"}
    put = {"kind": "queue-put", "on": "Queue maxsize=4"}
    run.pause(1, "queue.put", put, "The queue is full. It will be woken when somebody takes an item.")
    for task in everyone:
        run.start(task, "async def consume")
        run.pause(task, "queue.get", get, "The queue is empty. It will be woken when an item is put.")
    turn = 0
    while len(run.events) < length:
        task = everyone[turn % consumers]
        other = everyone[(turn + 1) % consumers]
        run.ready(1, {"kind": "task", "task": task, "step": turn}, "main is queued: there is room.")
        run.resume(1, "queue.put", turn)
        run.ready(task, {"kind": "task", "task": 1, "step": turn}, f"{run.names[task]} is queued: it has an item.")
        run.pause(1, "queue.put", put, "The queue is full.")
        run.resume(task, "queue.get", turn)
        if turn % 5 == 0:
            lock = {"kind": "lock", "on": "Lock", "holder": other}
            run.pause(task, "async with lock", lock, f"The lock is held by {run.names[other]}.")
            run.ready(
                task, {"kind": "task", "task": other, "step": turn}, f"{run.names[task]} is queued: it has the lock."
            )
            run.resume(task, "async with lock", turn)
        if turn % 40 == 39:
            run.prints(task, f"{turn + 1} items\n")
        run.pause(task, "queue.get", get, "The queue is empty.")
        if turn % 25 == 24:
            run.asleep(watches=[])
            run.awake(20_000, "Another thread called call_soon_threadsafe().", [{"kind": "thread"}])
        turn += 1
    return run.bill(0.4, 0.4, [])


def crowd(tasks=300):
    """Many tasks that sleep: more lanes than a screen has rows."""
    text = (
        "import asyncio\n\n\nasync def nap(n):\n    await asyncio.sleep(n)\n\n\n"
        f"async def main():\n    await asyncio.gather(*map(nap, range({tasks})))\n"
    )
    run = Recorder("crowd.py", text)
    run.queued(1, "main")
    run.start(1, "async def main")
    numbers = range(2, 2 + tasks)
    for task in numbers:
        run.queued(task, "nap" if task == 2 else f"nap#{task - 1}", by=1, code="gather(")
    gather = {"kind": "gather", "tasks": list(numbers), "done": 0, "of": tasks}
    run.pause(1, "gather(", gather, f"It will be woken by gather, when {tasks} of {tasks} are done.")
    timers = {}
    for task in numbers:
        run.start(task, "async def nap")
        timers[task] = run.sleeps(task, "asyncio.sleep(n)", task / 10)
    for task in numbers:
        run.asleep({"timer": timers[task], "in": 0.1, "task": task})
        run.awake(100_000, f"Timer {timers[task]} rang.", [{"kind": "timer", "timer": timers[task]}])
        run.ready(task, {"kind": "timer", "timer": timers[task]}, f"{run.names[task]} is queued.")
        run.resume(task, "asyncio.sleep(n)")
        run.finish(task, tells=["gather"])
    run.ready(1, {"kind": "task", "task": numbers[-1], "step": 1}, "main is queued.")
    run.resume(1, "gather(")
    run.finish(1)
    return run.bill(30.0, 4545.0, [])


WAITS = {
    "a_socket": {"kind": "socket", "fd": 7, "direction": "read", "peer": "[2001:db8::17]:443"},
    "a_child": {"kind": "child", "pid": 4711},
    "a_signal": {"kind": "signal"},
    "a_thread": {"kind": "thread", "job": "getaddrinfo('api.example')"},
    "a_lock": {"kind": "lock", "on": "<Lock locked, 1 waiter>", "holder": 2},
    "a_semaphore": {"kind": "semaphore", "on": "<Semaphore 0/4>"},
    "an_event": {"kind": "event", "on": "<Event unset>"},
    "a_future": {"kind": "future", "on": "<Future pending>"},
    "a_limit": {
        "kind": "any",
        "of": [{"kind": "timer", "timer": 1, "in": 5.0}, {"kind": "queue-get", "on": "<Queue>"}],
    },
    "a_turn": {"kind": "turn"},
    "lost": {"kind": "nobody"},
}


def waits():
    """A task for each thing that can be waited for; the program is ended while most of them wait."""
    body = "".join(f"async def {name}():\n    await {name}_\n\n\n" for name in WAITS)
    run = Recorder("waits.py", body + "async def main():\n    start_all()\n    await end\n")
    run.queued(1, "main")
    run.start(1, "async def main")
    for task, name in enumerate(WAITS, 2):
        run.queued(task, name, by=1, code="start_all")
    run.pause(1, "await end", {"kind": "task", "tasks": [2]}, "It will be woken when a_socket ends.")
    for task, (name, wait) in enumerate(WAITS.items(), 2):
        run.start(task, f"async def {name}")
        run.pause(task, f"await {name}_", wait, "It is told what will wake it.")
    run.resume(1 + list(WAITS).index("a_turn") + 1, "await a_turn_")
    run.finish(1 + list(WAITS).index("a_turn") + 1, "ValueError('no')", "raised")
    run.asleep()
    for task, name in enumerate(WAITS, 2):
        if name != "a_turn":
            run.write("mistake", f"{name} was still pending.", task, kind="pending-at-exit", cost=0, victims=[])
    return run.bill(0, 0, [])


SAMPLES = {"tutorial": tutorial, "echo": echo, "blocking": blocking, "workers": workers, "crowd": crowd, "waits": waits}
