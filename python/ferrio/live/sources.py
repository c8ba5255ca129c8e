"""Where, by a program's source, a task has taken a lock with ``acquire()``: the program itself does not write that down.

Read in the process that looks, so that it costs the other one nothing. It is what stands there, not what was seen: the calls
of ``acquire()`` in the functions that the task was in.
"""

import ast
import functools
import os
import tokenize

#: Calls that are told.
_MOST = 3


def complete(wait, files, began):
    """Adds ``acquires`` ([[file, line, function], …]) to the Wait for a lock that a task took with ``acquire()``.

    ``files`` may contain the function in which a task that is gone has done so. What was changed after the program ``began`` is not believed.
    """
    if wait.get("held") == "acquired":
        # Before the line at which it is, unless that is in a loop.
        calls = [call for line in wait["at"] for call in _before(line, _calls(line[0], began).get(line[2], ()))]
    elif wait.get("held") == "finished":
        everywhere = [
            [file, line, name]
            for file in sorted(files)
            for name, lines in _calls(file, began).items()
            for line in lines
        ]
        # Perhaps it was a function that has returned: it is told where there are so few that it helps.
        own = [call for call in everywhere if call[2] == wait["coro"]]
        calls = own or (everywhere if len(everywhere) <= _MOST else [])
    else:
        return
    wait["acquires"] = calls[-_MOST:]


def _before(place, lines):
    file, here, function = place
    sooner = [line for line in lines if line < here]
    return [[file, line, function] for line in sooner or lines]


@functools.lru_cache(None)
def _calls(file, began):
    """The lines of a file in which functions call ``acquire()``, by the functions' qualified names."""
    found = {}
    try:
        if os.stat(file).st_mtime <= began:
            with tokenize.open(file) as source:
                _collect(ast.parse(source.read()), "", "", found)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return {}
    return found


def _collect(node, prefix, function, found):
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.ClassDef(name=name):
                _collect(child, f"{prefix}{name}.", function, found)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                _collect(child, f"{prefix}{name}.<locals>.", prefix + name, found)
            case ast.Call(func=ast.Attribute(attr="acquire")):
                found.setdefault(function, []).append(child.func.end_lineno)
                _collect(child, prefix, function, found)
            case _:
                _collect(child, prefix, function, found)
