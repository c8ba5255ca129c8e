"""What the tests of `ferrio.observe` share: programs in processes of their own, for what is there once per process."""

import os
import subprocess
import sys
import textwrap


def program(text, *, status=0, **environment):
    """Runs a program; what it wrote to its two outputs."""
    done = subprocess.run(
        [sys.executable, "-Werror::DeprecationWarning", "-c", textwrap.dedent(text)],
        capture_output=True, text=True, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr
