"""Under ``ferrio explain`` a program does what it would have done."""

import os
import signal
import subprocess
import sys

import pytest

from .conftest import events_of, explain


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


def test_a_program_without_a_loop_is_told_of_as_such(program):
    assert "no event loop of ferrio's was made" in explain(program("print(1)")).stdout
