"""prompt_toolkit at a real (pseudo-)terminal."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time

import pytest
from programs import HERE, PATIENCE


def take_terminal():
    """In the child: standard input becomes the terminal of a session of its own, which signals come from."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A program at a pseudo-terminal, and its user."""

    def __init__(self, *command):
        self._user, side = pty.openpty()
        os.set_blocking(self._user, False)
        self.resize(24, 80)
        self._process = subprocess.Popen(
            [sys.executable, *command], cwd=HERE, stdin=side, stdout=side, stderr=side, preexec_fn=take_terminal
        )
        os.close(side)
        self._shown = b""

    # The kernel tells the program by SIGWINCH.
    def resize(self, rows, columns):
        fcntl.ioctl(self._user, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys):
        os.write(self._user, keys)

    def until_it_shows(self, text):
        """Reads on until the text appears."""
        deadline = time.monotonic() + PATIENCE
        while text not in self._shown:
            assert time.monotonic() < deadline, f"no {text!r} in {self._shown!r}"
            try:
                piece = os.read(self._user, 65536)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            except OSError:  # how Linux says that the program has left its terminal
                piece = b""
            if not piece:
                raise AssertionError(f"ended without {text!r}: {self._shown!r}")
            self._shown += piece
            if b"\x1b[6n" in piece:
                self.type(b"\x1b[1;1R")  # it asked where the cursor is
        self._shown = self._shown.partition(text)[2]

    def wait(self):
        return self._process.wait(PATIENCE)

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._user)


@pytest.fixture
def terminal_program():
    terminal = Terminal("prompt_app.py")
    yield terminal
    terminal.close()


def test_prompts_at_a_terminal(terminal_program, loop_name):
    terminal = terminal_program
    terminal.until_it_shows(f"loop: {loop_name}".encode())
    terminal.until_it_shows(b"80 columns")
    terminal.type(b"Ada")
    terminal.resize(40, 120)
    terminal.until_it_shows(b"120 columns")
    terminal.type(b"!\r")
    terminal.until_it_shows(b"word?")
    terminal.type(b"fer\t")
    terminal.until_it_shows(b"rio")
    terminal.type(b"\r")
    terminal.until_it_shows(b"answers: 'Ada!' 'ferrio', ticked: True")
    terminal.until_it_shows(b"last?")
    terminal.type(b"\x03")
    terminal.until_it_shows(b"interrupted")
    assert terminal.wait() == 0
