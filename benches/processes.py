"""The two processes of a network row, each on a CPU of its own where there are two."""

import contextlib
import json
import os
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


def pin(cpu):
    """What to run in a child before it starts: stay on this CPU."""
    return lambda: os.sched_setaffinity(0, {cpu})


@contextlib.contextmanager
def serve(command):
    """Runs a server until the block ends; the value is what it printed about itself, a line of JSON, and its process id."""
    with tempfile.TemporaryDirectory() as scratch:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": scratch},
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=pin(SERVER_CPU),
        )
        try:
            line = process.stdout.readline()
            if not line:
                raise Failure(f"the server ended with status {process.wait()} before it was ready")
            yield json.loads(line) | {"pid": process.pid}
        finally:
            process.kill()
            process.communicate()


def load(kind, address, pid, **options):
    """Runs the client of a row against a server: its report."""
    if kind == "tls-echo":
        client = [sys.executable, "-m", "benches.tls_client"]
    else:
        client = [LOAD, kind]
        if CLIENT_CPU != SERVER_CPU:
            options["nap"] = 0  # it has a CPU of its own to spin on
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [*client, address, "--server-pid", str(pid), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=pin(CLIENT_CPU))
    if done.returncode != 0:
        raise Failure(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout)
