"""Programs in an interpreter of their own: what would end the process must not end the tests."""

import subprocess
import sys
import textwrap

TIMEOUT = 60


def run_program(source, *options, prelude="", status=0):
    """Run the source; it must end with `status` and without a trace of a panic. Returns what it printed."""
    command = [sys.executable, "-X", "faulthandler", *options, "-c", prelude + textwrap.dedent(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "panicked" not in done.stderr, done.stderr
    return done.stdout
