"""Where in the user's code something happens: files, lines, and the expression that stands there.

Only looks: it compiles and runs nothing of the user's.
"""

import ast
import asyncio
import contextlib
import functools
import io
import linecache
import os
import site
import sys
import tokenize

import ferrio


def _real(path):
    """The path without links. Asked as if no loop ran: who forbids a program to block it (blockbuster) does not mean us."""
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return os.path.realpath(path)
    finally:
        asyncio._set_running_loop(running)


def _folders(*paths):
    return tuple(os.path.join(_real(path), "") for path in {*paths})


_FERRIO = _folders(os.path.dirname(ferrio.__file__))
# (Not asked of `sysconfig`, which reads all that the interpreter was built with: 5 ms, and a loop may be waiting.)
_LIBRARY = _folders(os.path.dirname(linecache.__file__))
_PACKAGES = _folders(*site.getsitepackages(), site.getusersitepackages())

#: Longer code than this is shortened in the middle.
_WIDTH = 48


@functools.lru_cache(None)
def owner(filename):
    """Whose file it is: "asyncio" (ferrio's included), "library", "package" or "user"."""
    if filename.startswith("<") and filename not in {"<string>", "<stdin>"}:
        return "library"
    path = _real(filename)
    if path.startswith(_FERRIO):
        return "asyncio"
    if path.startswith(_PACKAGES):
        return "package"
    if path.startswith(_LIBRARY):
        return "asyncio" if f"{os.sep}asyncio{os.sep}" in path else "library"
    return "user"


def is_users(code):
    return owner(code.co_filename) == "user"


class Places:
    """The user's files, by short names, and their lines."""

    def __init__(self):
        self.keys = {}  # file name → its key
        self.sources = {}  # key → text, or None if nobody has it
        self._texts = {}  # file name → lines, of what no file has
        self._base = os.getcwd()

    def program(self, filename, source):
        """The program itself: its folder is where short names begin."""
        if os.path.isabs(filename):
            self._base = os.path.dirname(filename)
        if source is not None:
            text = source.decode(errors="replace") if isinstance(source, bytes) else source
            if not os.path.exists(filename):
                self._texts[filename] = text.splitlines(keepends=True)
        return self.key(filename)

    def key(self, filename):
        known = self.keys.get(filename)
        if known is None:
            known = filename
            if os.path.isabs(filename):
                inside = os.path.relpath(filename, self._base)
                known = os.path.basename(filename) if inside.startswith("..") else inside
            while known in self.sources:
                known += "'"
            self.keys[filename] = known
            self.sources[known] = "".join(self._lines(filename)) or None
        return known

    def _lines(self, filename):
        return self._texts.get(filename) or linecache.getlines(filename)

    def at(self, filename, line):
        """A place, from a file's name and a line."""
        lines = self._lines(filename)
        code = lines[line - 1].strip() if 0 < line <= len(lines) else ""
        return {"file": self.key(filename), "line": line, "code": code}

    def of_frame(self, frame):
        """The line at which a frame is, or None if it is at none."""
        line = frame.f_lineno
        return None if line is None else self.at(frame.f_code.co_filename, line)

    def call(self, frame):
        """What is being called where a frame is, as it is written there: ``asyncio.gather``. "" if that cannot be told."""
        return _called(self._segment(frame).removeprefix("await "))

    def awaited(self, frame):
        """The place of a frame that waits, where the code is what it awaits: ``await asyncio.sleep(1)``."""
        place = self.of_frame(frame)
        if place is None:
            return None
        segment = self._segment(frame)
        if segment.startswith("await"):
            place["code"] = segment
            place["line"] = _positions(frame.f_code)[frame.f_lasti // 2][0] or place["line"]
        else:
            place["code"] = place["code"].removesuffix(":")
        return place

    def _segment(self, frame):
        """The expression of a frame's present instruction, on one line."""
        code = frame.f_code
        index = frame.f_lasti // 2
        positions = _positions(code)
        if index >= len(positions):
            return ""
        line, end, start_column, end_column = positions[index]
        if None in (line, end, start_column, end_column):
            return ""
        lines = [text.encode() for text in self._lines(code.co_filename)[line - 1 : end]]
        if not lines:
            return ""
        lines[-1] = lines[-1][:end_column]
        lines[0] = lines[0][start_column:]
        return b" ".join(text.strip() for text in lines).decode(errors="replace")


def nearest(frame, floor=None):
    """The innermost frame of the user's, from ``frame`` outwards to before ``floor``; of a package's if there is none; or
    None."""
    package = None
    while frame is not None and frame is not floor:
        whose = owner(frame.f_code.co_filename)
        if whose == "user":
            return frame
        if whose == "package" and package is None:
            package = frame
        frame = frame.f_back
    return package


def call_in(code, name):
    """How a function of this name is called in a line, as it is written there: ``self.save``. "" if it is not."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return ""
    calls = (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))
    return next((call for call in calls if call.rpartition(".")[2] == name), "")


def _without_comment(code):
    if "#" in code:
        with contextlib.suppress(tokenize.TokenError, SyntaxError):
            for token in tokenize.generate_tokens(io.StringIO(code).readline):
                if token.type == tokenize.COMMENT:
                    return code[: token.start[1]].rstrip()
    return code


def shorten(code):
    """Code that fits into a sentence: without a comment, and the arguments of a long call are left out."""
    code = " ".join(_without_comment(code).split())
    if len(code) <= _WIDTH:
        return code
    name = _called(code.removeprefix("await "))
    if name and len(name) < _WIDTH:
        awaits = "await " if code.startswith("await ") else ""
        return f"{awaits}{name}(…)"
    return code[: _WIDTH - 1] + "…"


@functools.lru_cache(2048)
def _called(expression):
    try:
        node = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return ""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


@functools.lru_cache(2048)
def _positions(code):
    return tuple(code.co_positions())


def discards(frame):
    """Whether the result of the call where a frame is will be thrown away."""
    return _discards(frame.f_code, frame.f_lasti)


@functools.lru_cache(2048)
def _discards(code, at):
    import dis

    for instruction in dis.get_instructions(code):
        if instruction.offset > at and instruction.opname not in {"CACHE", "NOP", "EXTENDED_ARG"}:
            return instruction.opname == "POP_TOP"
    return False


def here(depth=1, floor=None):
    """The innermost frame of the user's that is running now."""
    return nearest(sys._getframe(depth + 1), floor)


def calls_asyncio(frame, depth=1):
    """Whether it is a frame itself that has called asyncio, and not something in between."""
    inner = sys._getframe(depth + 1)
    while inner is not None and inner is not frame:
        if owner(inner.f_code.co_filename) != "asyncio":
            return False
        inner = inner.f_back
    return True
