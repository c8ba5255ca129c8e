"""Starting the programs of ``incidents``, and looking at them as a user would."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import ferrio._ferrio as native

PROGRAMS = Path(__file__).parent / "incidents.py"

#: A word of their command lines, by which they differ from those of another run of the tests.
OURS = f"for-{os.getpid()}"


@contextlib.contextmanager
def running(name, prefix=(), **environment):
    """The process of a program that has said that it is ready; with a ``prefix``, of what has started it."""
    command = [*prefix, sys.executable, PROGRAMS, name, OURS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()
            process.wait()
            for suffix in (".loop", ".stacks"):
                (Path(native.page_folder()) / f"{process.pid}{suffix}").unlink(missing_ok=True)


def look(*words):
    """What a command prints, and its exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "ferrio", *map(str, words)], capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def examine(pid, patience=1):
    """What the doctor says."""
    done = look("doctor", pid, "--json", "--patience", patience)
    report = json.loads(done.stdout)
    assert report["status"] == done.returncode
    return report


def kinds(report):
    return {finding["kind"] for finding in report["findings"]}


def until(condition, seconds=30):
    """Asks again and again. The last answer, true or not."""
    end = time.monotonic() + seconds
    while not (answer := condition()) and time.monotonic() < end:
        time.sleep(0.3)
    return answer
