"""The two processes of a network row, each on a CPU of its own where there are two."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOAD = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "ferrio-load"

_cpus = sorted(os.sched_getaffinity(0))
SERVER_CPU, CLIENT_CPU = _cpus[0], _cpus[-1]


def pin(cpu):
    """What to run in a child before it starts: stay on this CPU."""
    return lambda: os.sched_setaffinity(0, {cpu})


@contextlib.contextmanager
def serve(command):
    """Runs a server until the block ends; the value is what it printed about itself, a line of JSON, and its process id."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=pin(SERVER_CPU)
    )
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server {' '.join(command)} ended with status {process.wait()} before it was ready")
        yield json.loads(line) | {"pid": process.pid}
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def load(kind, address, pid, **options):
    """Runs the client of a row against a server: its report."""
    client = [sys.executable, "-m", "benches.tls_client"] if kind == "tls-echo" else [LOAD, kind]
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [*client, address, "--server-pid", str(pid), *words]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=pin(CLIENT_CPU))
    return json.loads(done.stdout)
