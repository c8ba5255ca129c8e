"""Programs in processes of their own: started, asked, told to stop, and never left running."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PATIENCE = 20


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Program:
    """A program with its output in a file, in a process group that ends with it.

    A command that begins with a script or an option is one for this Python.
    """

    def __init__(self, command, **options):
        self._output = tempfile.TemporaryFile("w+")
        # What is on the path already puts ferrio's primitives into asyncio (see conftest.py).
        path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
        command = [str(word) for word in command]
        if command[0].startswith("-") or command[0].endswith(".py"):
            command.insert(0, sys.executable)
        self._process = subprocess.Popen(
            command,
            cwd=HERE,
            env=environment,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )

    @property
    def pid(self):
        return self._process.pid

    @property
    def output(self):
        self._output.seek(0)
        return self._output.read()

    def signal(self, number=signal.SIGTERM):
        self._process.send_signal(number)

    def wait(self, timeout=PATIENCE):
        """The exit status."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s:\n{self.output}") from None

    def until(self, ready, what="to be ready"):
        """Waits until `ready()` is true (or returns without an OSError), and returns its value."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if value := ready():
                    return value
                failure = None
            except OSError as error:
                failure = error
            if self._process.poll() is not None:
                raise AssertionError(f"ended with status {self._process.returncode}:\n{self.output}")
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {PATIENCE} s for it {what}: {failure!r}\n{self.output}")
            time.sleep(0.02)

    def until_it_says(self, text):
        self.until(lambda: text in self.output, f"to say {text!r}")

    def end(self):
        """Ends the program and whatever it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()


def connectable(port):
    def ready():
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return True

    return ready


class Browser:
    """A plain HTTP client that knows nothing of loops."""

    def __init__(self, port, context=None):
        if context is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        else:
            self.connection = http.client.HTTPSConnection("localhost", port, timeout=PATIENCE, context=context)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def get(self, path, expected=200):
        self.connection.request("GET", path)
        return self._body(expected)

    def post(self, path, body, expected=200):
        self.connection.request("POST", path, body)
        return self._body(expected)

    def _body(self, expected):
        response = self.connection.getresponse()
        body = response.read()
        assert response.status == expected, body
        return body
