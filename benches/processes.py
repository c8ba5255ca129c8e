"""The processes of a network row, server and client each on a CPU of its own where there are two."""

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOAD = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "ferrio-load"


class Failure(Exception):
    """A loop could not do what a row asks for; the other loops and rows go on."""


_cpus = sorted(os.sched_getaffinity(0))
SERVER_CPU, CLIENT_CPU = _cpus[0], _cpus[-1]


def settle(cpu):
    """What to run in a child before it starts: stay on this CPU, and open as many files as is allowed."""

    def in_child():
        os.sched_setaffinity(0, {cpu})
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    return in_child


@contextlib.contextmanager
def announced(command, cpu):
    """Runs a process until the block ends; the value is what it prints about itself, a line of JSON, and its process id."""
    with tempfile.TemporaryDirectory(prefix="ferrio-bench-") as scratch, open(f"{scratch}/errors", "w+") as errors:
        process = subprocess.Popen(
            [str(word) for word in command], cwd=ROOT, env=os.environ | {"TMPDIR": scratch}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, preexec_fn=settle(cpu),
        )  # fmt: skip
        try:
            line = process.stdout.readline()
            if not line:
                process.wait()
                errors.seek(0)
                raise Failure(f"{Path(command[0]).name} ended: {last_line(errors.read())}")
            yield json.loads(line) | {"pid": process.pid}
        finally:
            process.kill()
            process.communicate()


def serve(words):
    """A server in Python, `python WORDS`, as a context manager."""
    return announced([sys.executable, *words], SERVER_CPU)


def bare(kind, address, cpu=SERVER_CPU, **options):
    """A server that makes the system calls and nothing else."""
    return announced([LOAD, "serve", kind, address, *_words(options)], cpu)


def hold(address, connections):
    """Connections to a server that say nothing, as a context manager."""
    return announced([LOAD, "hold", address, "--connections", connections], CLIENT_CPU)


def load(kind, server, **options):
    """Runs the client of a row against a server: its report."""
    if CLIENT_CPU != SERVER_CPU:
        options["nap"] = 0  # it has a CPU of its own to spin on
    if "authority" in server:
        options["authority"] = server["authority"]
    command = [str(LOAD), kind, server["address"], "--server-pid", str(server["pid"]), *_words(options)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=settle(CLIENT_CPU))
    if done.returncode != 0:
        raise Failure(last_line(done.stderr))
    return json.loads(done.stdout)


def resident(pid):
    """Bytes of memory that the process has for itself, not shared with a file."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise Failure("the process has no memory left")


def last_line(text):
    return text.strip().splitlines()[-1] if text.strip() else "without a word"


def _words(options):
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]
