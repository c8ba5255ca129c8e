"""``ferrio explain``: its options, and that the program does what it would have done."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from .conftest import HERE, PROGRAMS, events_of, explain

#: What every event of a kind has (n, t and text apart).
FIELDS = {
    "loop": {"what"},
    "queued": {"task", "name", "by", "ready"},
    "start": {"task", "name", "waited", "step"},
    "pause": {"task", "name", "ran", "waits"},
    "ready": {"task", "name", "because", "ready", "waits"},
    "resume": {"task", "name", "waited", "step", "because"},
    "finish": {"task", "name", "outcome", "value", "ran", "total", "tells"},
    "cancel": {"task", "name", "by"},
    "asleep": {"until", "watches"},
    "awake": {"slept", "by"},
    "output": {"output", "stream"},
    "mistake": {"kind", "cost", "victims"},
    "callback": {"what", "why", "inner", "because"},
    "bill": {"elapsed", "ran", "python", "asleep", "wakes", "one_by_one", "chains", "more_chains", "error"},
}
WAITS = {
    "timer": {"timer", "in"}, "task": {"tasks"}, "gather": {"tasks", "done", "of"}, "socket": {"fd", "direction", "peer"},
    "thread": {"job"}, "queue-get": {"on"}, "queue-put": {"on"}, "queue-join": {"on"}, "lock": {"on", "holder"},
    "event": {"on"}, "condition": {"on"}, "semaphore": {"on"}, "barrier": {"on"}, "child": {"pid"}, "future": {"on"},
    "turn": set(), "any": {"of"}, "nobody": {"on"},
}  # fmt: skip
CAUSES = {
    "timer": {"timer"}, "socket": {"fd", "direction"}, "task": {"task", "step"}, "thread": set(), "signal": {"number"},
    "child": {"pid"}, "cancel": set(), "outside": set(), "generator": set(), "callback": {"what", "because"}, "turn": set(),
}  # fmt: skip


@pytest.fixture
def program(tmp_path):
    def write(text, name="program.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


SIMPLE = """
    import asyncio, sys

    async def main():
        print("args", sys.argv[1:])
        await asyncio.sleep(0.01)
        print("done", file=sys.stderr)

    asyncio.run(main())
"""


def check_wait(wait):
    assert WAITS[wait["kind"]] <= wait.keys(), wait
    for each in wait.get("of", ()) if wait["kind"] == "any" else ():
        check_wait(each)


def check_cause(cause):
    assert CAUSES[cause["kind"]] <= cause.keys(), cause


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_event_has_the_fields_of_its_kind(name, real):
    head, *events = real[name]
    assert head["event"] == "head" and head["version"] == 1 and head["clock"] == "real"
    assert head["sources"] == {f"{name}.py": None}
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["event"] == "loop" and events[-1]["event"] == "bill"
    for event in events:
        assert FIELDS[event["event"]] <= event.keys(), event
        assert event["text"] and event["t"] >= 0
        assert ("line" in event) == ("file" in event) == ("code" in event)
        if "waits" in event and event["waits"]:
            check_wait(event["waits"])
        for cause in (
            [event["because"]] if "because" in event else event.get("by", ()) if event["event"] == "awake" else ()
        ):
            check_cause(cause)
    living = set()
    for event in events:
        if event["event"] == "queued":
            living.add(event["task"])
        elif event["event"] == "finish":
            living.remove(event["task"])
    assert not living


def test_arguments_and_output_reach_their_places(program):
    ran = explain("--fast", program(SIMPLE), "a", "-v")
    lines = ran.stdout.splitlines()
    starts = next(index for index, line in enumerate(lines) if "starts at line" in line)
    assert lines[starts + 1].strip() == "│ args ['a', '-v']"
    finished = next(index for index, line in enumerate(lines) if "has finished" in line)
    assert lines[finished - 1].strip() == "┃ done"
    assert ran.stderr == ""


def test_in_json_output_is_an_event_in_its_place(program):
    events = events_of("--fast", program(SIMPLE))
    kinds = [event["event"] for event in events]
    first = kinds.index("output")
    assert kinds[first - 1] == "start" and events[first]["name"] == "main"
    assert "".join(event["output"] for event in events if event.get("stream") == "stdout") == "args []\n"
    assert "".join(event["output"] for event in events if event.get("stream") == "stderr") == "done\n"


def test_no_colours_and_no_other_codes_where_there_is_no_terminal(program):
    assert "\x1b" not in explain("--fast", program(SIMPLE)).stdout


@pytest.mark.skipif(os.name != "posix", reason="terminals of this kind are POSIX's")
def test_colours_on_a_terminal_unless_they_are_unwanted(program):
    import pty

    def on_terminal(**environment):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "ferrio", "explain", "--fast", str(program(SIMPLE))]
        environment = {**os.environ, "TERM": "xterm", **environment}
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        said = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:
                break
            if not data:
                break
            said += data
        os.close(ours)
        assert process.wait() == 0
        return said

    assert b"\x1b[" in on_terminal()
    assert b"\x1b[" not in on_terminal(NO_COLOR="1")


class OnTerminal:
    """``ferrio explain`` on a terminal of its own."""

    def __init__(self, *words):
        import pty

        self.said = b""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execv(sys.executable, [sys.executable, "-m", "ferrio", "explain", *map(str, words)])

    def read_until(self, word):
        while word not in self.said:
            ready, _, _ = select.select([self._terminal], [], [], 30)
            assert ready, self.said
            self.said += os.read(self._terminal, 65536)

    def press(self, key):
        os.write(self._terminal, key)

    def wait(self):
        _, status = os.waitpid(self._pid, 0)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.skipif(os.name != "posix", reason="terminals of this kind are POSIX's")
def test_step_waits_for_a_key_and_q_for_none(program):
    story = OnTerminal("--fast", "--step", program(SIMPLE))
    story.read_until(b"has nothing to do yet")
    time.sleep(0.5)
    story.press(b" ")
    story.read_until(b"main")
    assert b"starts" not in story.said
    story.press(b"q")
    story.read_until(b"THE BILL")
    assert story.wait() == 0


@pytest.mark.skipif(os.name != "posix", reason="terminals of this kind are POSIX's")
def test_step_lets_ctrl_c_through(program):
    path = program("""
        import asyncio

        async def main():
            try:
                await asyncio.sleep(60)
            finally:
                print("cleaning up")

        asyncio.run(main())
    """)
    story = OnTerminal("--step", path)
    for word in (b"has nothing to do yet", b"is made a task", b"starts at"):
        story.read_until(word)
        time.sleep(0.5)
        story.press(b" ")
    story.read_until(b"gives the")
    time.sleep(0.5)
    story.press(b"\x03")
    story.read_until(b"KeyboardInterrupt")
    # Nobody is asked to press a key from there on.
    assert story.wait() == -signal.SIGINT
    assert b"cleaning up" in story.said and b"ended by Ctrl-C" in story.said


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_whoever_reads_it_may_have_had_enough(program, options):
    path = program("""
        import asyncio, pathlib

        async def main():
            for _ in range(50):
                await asyncio.sleep(0.001)
                print("on")
            pathlib.Path("ended").touch()

        asyncio.run(main())
    """)
    command = [sys.executable, "-m", "ferrio", "explain", *options, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=path.parent) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0 and (path.parent / "ended").exists()


def test_lines_fit_and_numbers_keep_their_units(program):
    path = program("""
        import asyncio

        async def a_task_with_a_rather_long_name(number):
            await asyncio.sleep(0.25 * number)

        async def main():
            await asyncio.gather(*map(a_task_with_a_rather_long_name, range(1, 8)))

        asyncio.run(main())
    """)
    lines = explain(path, COLUMNS="80").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if re.match(r"\W*(s|ms|µs)\b", line)]


def test_one_event_is_not_left_out_but_told(program):
    path = program("""
        import asyncio

        async def ticks():
            while True:
                await asyncio.sleep(1)

        async def main():
            task = asyncio.create_task(ticks())
            await asyncio.sleep(3.5)
            task.cancel()

        asyncio.run(main())
    """)
    story = explain("--fast", path).stdout
    assert "wakes after 500 ms: timer 1 is due" in story and "more like these" not in story


@pytest.mark.parametrize(
    "ending, status, message",
    [
        ("sys.exit(3)", 3, ""),
        ("sys.exit('no')", 1, "no\n"),
        ("raise ValueError('broken')", 1, "ValueError: broken\n"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt\n"),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_exit_status_and_exception_are_the_programs(program, ending, status, message, inside):
    path = program(f"""
        import asyncio, sys

        async def main():
            await asyncio.sleep(0)
            {ending if inside else "pass"}

        asyncio.run(main())
        {ending}
    """)
    told = explain("--fast", path, check=False)
    plain = subprocess.run([sys.executable, "-m", "ferrio", path], capture_output=True, text=True, timeout=30)
    assert (told.returncode, told.stderr) == (plain.returncode, plain.stderr)
    assert told.returncode == status and told.stderr.endswith(message)
    assert "THE BILL" in told.stdout


def test_ctrl_c_ends_the_story_properly(program):
    path = program("""
        import asyncio

        async def main():
            print("waiting", flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
    """)
    command = [sys.executable, "-m", "ferrio", "explain", path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
    said = ""
    while "asks the operating system" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert "is cancelled" in rest and "ended by Ctrl-C" in rest and errors.endswith("KeyboardInterrupt\n")
    # It has waited for its timer all the time, and not to be run.
    assert "ready queue" not in rest


def test_a_library_s_tasks_are_the_library_s(program, tmp_path):
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}{sys.abiflags}"
    packages = tmp_path / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (packages / "heart.py").write_text(
        textwrap.dedent("""
            import asyncio

            class Heart(asyncio.Protocol):
                def start(self):
                    self.task = asyncio.create_task(self.beat())

                def connection_made(self, transport):
                    self.start()
                    transport.write(b"!")

                def data_received(self, data):
                    self.task.cancel()
                    asyncio.create_task(self.bump())

                async def beat(self):
                    await asyncio.sleep(10)

                async def bump(self):
                    self.task = asyncio.create_task(self.end())

                async def end(self):
                    await asyncio.sleep(0)
        """)
    )
    path = program("""
        import asyncio, heart

        async def main():
            heart.Heart().start()
            server = await asyncio.start_server(answer, "127.0.0.1")
            await asyncio.get_running_loop().create_connection(heart.Heart, *server.sockets[0].getsockname())
            await asyncio.sleep(0.2)
            server.close()

        async def answer(reader, writer):
            writer.write(await reader.read(1))
            await asyncio.sleep(0.1)
            writer.close()

        asyncio.run(main())
    """)
    events = events_of(path, PYTHONUSERBASE=str(tmp_path), PYTHONPATH=str(packages))
    names = {event["task"]: event["name"] for event in events if event["event"] == "queued"}
    born = {
        event["name"]: (event.get("file"), event["by"].get("task"), event.get("because", {}).get("kind"))
        for event in events
        if event["event"] == "queued"
    }
    (main,) = (number for number, name in names.items() if name == "main")
    (bump,) = (number for number, name in names.items() if name == "bump")
    assert born["beat"] == ("program.py", main, None)
    heart = born["end"][0]
    assert heart.endswith("heart.py") and born["end"] == (heart, bump, None)
    assert born["answer"] == (None, None, "socket") and born["bump"] == (heart, None, "socket")
    # They are kept, or thrown away, by the library: only what the program itself throws away can it do better.
    unkept = [event for event in events if event["event"] == "mistake" and event["kind"] == "unkept-task"]
    assert [event["name"] for event in unkept] in ([], ["bump"])
    # What has woken the loop is what it has told the operating system to watch.
    asleep = None
    for event in events:
        if event["event"] == "asleep":
            asleep = event
        if event["event"] == "awake":
            watched = {watch["fd"] for watch in asleep["watches"]}
            assert {cause["fd"] for cause in event["by"] if cause["kind"] == "socket"} <= watched


def test_what_other_processes_and_threads_run_is_named(program):
    path = program("""
        import asyncio, concurrent.futures, os

        async def main():
            loop = asyncio.get_running_loop()
            with concurrent.futures.ProcessPoolExecutor(1) as pool:
                await asyncio.gather(loop.run_in_executor(pool, os.getpid))
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                await asyncio.wait([loop.run_in_executor(pool, os.getppid), loop.run_in_executor(pool, os.getppid)])

        if __name__ == "__main__":
            asyncio.run(main())
    """)
    told = explain(path).stdout
    assert "woken by gather, when a future has finished" in told
    assert "woken by asyncio.wait, when all of them have finished" in told and "2 futures have not finished" in told
    assert "nobody have" not in told and "nobody has finished" not in told


@pytest.mark.parametrize("way", ["-m", "-c", "-"])
def test_every_way_to_name_a_program(way, program):
    path = program(SIMPLE, "named.py")
    text = textwrap.dedent(SIMPLE)
    words = {"-m": ["-m", "named"], "-c": ["-c", text], "-": ["-"]}[way]
    ran = explain("--fast", *words, "a", cwd=path.parent, stdin=text)
    assert "│ args ['a']" in ran.stdout and "main       starts at line 4." in ran.stdout
    assert "`await asyncio.sleep(0.01)`" in ran.stdout


def test_verbose_says_why_there_are_inner_callbacks():
    story = explain("--fast", "-v", "gather.py").stdout
    assert "gather counts which of its tasks have finished" in story
    assert "it stops the loop when the main task has finished" in story


@pytest.mark.parametrize(
    "words", [["--nonsense", "x.py"], [], ["--page"], ["-m"], ["--page", "missing/x.html", "x.py"]]
)
def test_a_wrong_command_line_is_refused(words):
    ran = explain(*words, check=False)
    assert ran.returncode == 2 and ran.stdout == "" and "usage: ferrio explain" in ran.stderr


def test_help():
    said = explain("--help").stdout
    assert all(option in said for option in ("--fast", "--step", "-v", "--json", "--page", "--loop-only"))


def test_a_script_named_like_the_command_is_still_reached(program):
    path = program("print('the script')", "explain")
    ran = subprocess.run(
        [sys.executable, "-m", "ferrio", "./explain"], cwd=path.parent, capture_output=True, text=True, timeout=30
    )
    assert (ran.stdout, ran.stderr) == ("the script\n", "")


def test_ten_thousand_events_are_folded(program):
    path = program("""
        import asyncio

        async def ping(mine, other, count):
            for _ in range(count):
                await mine.get()
                other.put_nowait(None)

        async def main():
            a, b = asyncio.Queue(), asyncio.Queue()
            a.put_nowait(None)
            await asyncio.gather(ping(a, b, 2000), ping(b, a, 2000))

        asyncio.run(main())
    """)
    assert len(events_of("--fast", path)) > 10_000
    story = explain("--fast", path).stdout.splitlines()
    assert len(story) < 100
    folded = [
        int(re.search(r"… ([\d,]+) more", line)[1].replace(",", "")) for line in story if " more like these" in line
    ]
    assert sum(folded) > 9_900


def test_repetition_without_a_pattern_is_bounded_too(program):
    path = program("""
        import asyncio, random

        async def work(name):
            for _ in range(400):
                await asyncio.sleep(random.random())

        async def main():
            await asyncio.gather(*[work(name) for name in range(5)])

        asyncio.run(main())
    """)
    assert len(explain("--fast", path).stdout.splitlines()) < 500


def test_what_the_program_prints_is_never_folded(program):
    path = program("""
        import asyncio

        async def main():
            for number in range(300):
                print("number", number)
                await asyncio.sleep(1)

        asyncio.run(main())
    """)
    story = explain("--fast", path).stdout
    assert [int(number) for number in re.findall(r"│ number (\d+)", story)] == list(range(300))
    assert len(story.splitlines()) < 400


def test_a_page_holds_the_same_events(program, tmp_path):
    pytest.importorskip("ferrio.page", reason="this build has no pages")
    explain("--fast", f"--page={tmp_path / 'out.html'}", "gather.py")
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "It tells gather (3 of 3)" in page and "async def brew" in page


def test_the_program_sees_the_streams_that_it_would_have_seen(program):
    path = program("""
        import asyncio, io, os, sys

        async def main():
            for stream in sys.stdout, sys.stderr:
                print(stream.encoding, stream.errors, stream.isatty(), stream.fileno(), stream.name, stream.mode,
                      stream.line_buffering, isinstance(stream, io.TextIOWrapper))
            sys.stdout.buffer.write(b"bytes\\n")
            sys.stdout.reconfigure(line_buffering=True)
            sys.stdout.flush()
            print("no end", end="")
            await asyncio.sleep(0)
            print("\\u00e9\\u20ac")
            os.write(1, b"")

        asyncio.run(main())
    """)
    events = events_of("--fast", path, PYTHONUNBUFFERED="1")
    told = "".join(event["output"] for event in events if event["event"] == "output")
    plain = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        # Unbuffered: a story has what is written when it is written, be it as text or as bytes.
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"},
    )
    assert told == plain.stdout


def test_nothing_changes_for_the_program(program):
    # The order of everything, weak references, the exceptions, the warnings: as without being watched.
    path = program("""
        import asyncio, contextvars, gc, warnings, weakref

        var = contextvars.ContextVar("var", default=0)

        class Value:
            def __repr__(self):
                print("repr is the program's own")
                return "Value"

        async def child(number):
            var.set(number)
            for turn in range(3):
                print(number, turn, var.get())
                await asyncio.sleep(0)
            return Value()

        async def fails():
            raise KeyError("x")

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: print("handler:", context["message"]))
            for number in range(3):
                loop.call_soon(print, "soon", number)
            values = await asyncio.gather(child(1), child(2))
            dead = weakref.ref(values[0])
            del values
            print("gone", dead() is None)
            task = asyncio.ensure_future(fails())
            await asyncio.wait([task])
            task = weakref.ref(task)
            await asyncio.sleep(0)
            print("task gone", task() is None)
            fails()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                fails()
                print([str(warning.message) for warning in caught])

        asyncio.run(main())
    """)
    told = [event for event in events_of("--fast", path) if event["event"] == "output"]
    plain = subprocess.run([sys.executable, "-m", "ferrio", path], capture_output=True, text=True, timeout=30)
    for stream, said in ("stdout", plain.stdout), ("stderr", plain.stderr):
        assert "".join(event["output"] for event in told if event["stream"] == stream) == said


def test_several_loops_in_several_threads(program):
    path = program("""
        import asyncio, threading

        async def nap(name):
            await asyncio.sleep(0.01)
            print(name)

        threads = [threading.Thread(target=lambda name=name: asyncio.run(nap(name))) for name in "ab"]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    """)
    events = events_of(path)
    assert sorted(event["output"] for event in events if event["event"] == "output") == ["a\n", "b\n"]
    assert sum(event["event"] == "finish" for event in events) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_tells_no_story(program):
    path = program("""
        import asyncio, os, sys, warnings

        warnings.simplefilter("ignore")

        async def main():
            await asyncio.sleep(0.01)

        asyncio.run(main())
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            asyncio.run(main())
            print("from the child")
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
    """)
    ran = explain("--fast", path)
    assert ran.stdout.count("starts at line") == 1 and "\nfrom the child\n" in ran.stdout


def test_a_program_on_a_loop_of_its_own_runs_untold(program):
    path = program("""
        import asyncio

        async def main():
            await asyncio.sleep(0)
            print("done")

        loop = asyncio.SelectorEventLoop()
        loop.run_until_complete(main())
        loop.close()
    """)
    assert "│ done" in explain("--fast", path).stdout


def test_bytes_of_a_real_socket_were_known_to_the_kernel(program):
    path = program("""
        import asyncio, socket, threading, time

        def peer(listening):
            connection, _ = listening.accept()
            with connection:
                connection.recv(100)
                time.sleep(0.2)
                connection.send(b"answer\\n")

        async def main():
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(b"question\\n")
            assert await reader.readline() == b"answer\\n"
            writer.close()

        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=peer, args=[listening]).start()
            asyncio.run(main())
    """)
    events = events_of(path)
    (wait,) = [event for event in events if event["event"] == "pause" and event["line"] == 14]
    assert wait["waits"]["kind"] == "socket" and wait["waits"]["peer"].startswith("127.0.0.1:")
    (news,) = [
        cause for event in events if event["event"] == "awake" for cause in event["by"] if cause.get("bytes") == 7
    ]
    if sys.platform == "linux":
        assert news["arrived"] > wait["t"] + 0.1 and news["age"] >= 0


def test_the_examples_of_the_tutorial(tmp_path):
    tutorial = HERE.parent.parent / "examples" / "tutorial.py"
    story = explain("--fast", tutorial).stdout
    assert "kettle#2" in story and "THE BILL  8 s virtual time" in story


def test_json_lines_are_json_and_nothing_else(program):
    ran = explain("--json", "--fast", program(SIMPLE))
    assert ran.stderr == "" and [json.loads(line) for line in ran.stdout.splitlines()]


LOCK = """
    import asyncio

    async def takes(lock, ends):
        await lock.acquire()
        if not ends:
            await asyncio.sleep(1)
            lock.release()

    async def waits(lock):
        async with asyncio.timeout(2):
            async with lock:
                pass

    async def main():
        for ends in (False, True):
            lock = asyncio.Lock()
            taker = asyncio.create_task(takes(lock, ends), name="ending" if ends else None)
            await asyncio.sleep(0)
            if ends:
                await taker
                del taker
            try:
                await waits(lock)
            except TimeoutError:
                pass

    asyncio.run(main())
"""


def test_who_has_taken_a_lock_with_acquire(program):
    told = [event for event in events_of("--fast", program(LOCK)) if "gives the thread back" in event.get("text", "")]
    locks = [(event["text"], event["waits"]["of"][0]) for event in told if event["waits"]["kind"] == "any"]
    (held, first), (left, second) = locks
    assert "takes has the lock, so it gives" in held and "when takes releases it, or by timer" in held
    assert "ending has finished without releasing the lock" in left and "when somebody else releases it" in left
    assert "finished" not in first and second["finished"] is True


def test_a_program_without_a_loop_is_told_of_as_such(program):
    assert "no event loop of ferrio's was made" in explain(program("print(1)")).stdout
