"""``.xlog``: a flight record in a file.

Gzipped lines of JSON, so that a few lines of any language read it. The first line is the head::

    {"xlog": 1, "saved": unix seconds, "process": {…}, "loops": [{…}], "snapshots": {"0": {…}}, "columns": ["kind", …],
     "deep": [the events of the level deep, if there were any]}

and every further line one record, an array in the order of ``columns``. Times are seconds of the process's
``time.monotonic()``; ``process.began`` and ``process.began_monotonic`` are the same moment on both clocks.
"""

import gzip
import json
import os
import time
import zlib
from typing import NamedTuple

from .. import _ferrio

VERSION = 1


class Record(NamedTuple):
    """One record of the ring."""

    kind: str  #: "wake", "step", "sleep", "timer", "name" or "end"
    slot: int  #: the loop's place in the page
    at: float  #: when it happened or began, in seconds
    subject: int  #: what it is about (0: the loop itself); a timer's number
    number: int  #: a step's number (its low 32 bits); a name's task's own number (Task-12), 0 for none
    length: float  #: how long a step or sleep took, in seconds
    when: float  #: a timer's deadline
    cause: str  #: "outside", "step", "timer", "descriptor", "thread", "signal", "child" or "cancel"
    payload: (
        int  #: a step's or timer's number, a descriptor times two plus one for writing, a signal's or process's number
    )
    name: str  #: what a subject is called


class Log(NamedTuple):
    """A whole file."""

    process: dict
    loops: list
    snapshots: dict
    records: list
    deep: list = []  #: the events of the level deep, if there are any


def of_page(path):
    """What a page has to tell now, from its file.

    OSError if there is none, or none of this version of ferrio.
    """
    from . import deep

    view = _ferrio.PageView(path)
    # Those that are closed by now have run, too.
    loops = view.loops() + view.past_loops()
    snapshots = {}
    for loop in loops:
        if found := view.snapshot(loop["slot"]):
            when, _, text = found
            snapshots[str(loop["slot"])] = {"at": when, "state": json.loads(text)}
    return Log(view.process(), loops, snapshots, [Record(*record) for record in view.records()], deep.read(path))


def save(log, path):
    """Write a file; what was there before is replaced only once the new one is whole. Where there is a device or a pipe
    (``/dev/stdout``), it is written to.
    """
    head = {
        "xlog": VERSION,
        "saved": time.time(),
        "process": log.process,
        "loops": log.loops,
        "snapshots": log.snapshots,
        "columns": Record._fields,
        "deep": log.deep,
    }
    # (A link goes on to be one.)
    path = os.path.realpath(os.fsdecode(path))
    if os.path.exists(path) and not os.path.isfile(path):
        return _write(path, head, log.records)
    part = f"{path}.part"
    try:
        _write(part, head, log.records)
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise


def _write(path, head, records):
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=4) as file:
        for line in (head, *records):
            file.write(json.dumps(line, separators=(",", ":")) + "\n")


def load(path):
    """Read a file.

    :raises OSError: if it cannot be read.
    :raises ValueError: if it is no flight record, is cut off, or is of another version.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            head = json.loads(file.readline())
            version = head.get("xlog") if isinstance(head, dict) else None
            if version is None:
                raise ValueError("not a flight record")
            if version != VERSION:
                raise ValueError(f"a flight record of version {version}; this ferrio reads version {VERSION}")
            # Columns that a later writer has added are skipped.
            places = [head["columns"].index(name) for name in Record._fields]
            records = [Record(*(line[place] for place in places)) for line in map(json.loads, file)]
            return Log(head["process"], head["loops"], head["snapshots"], records, head.get("deep", []))
    except (gzip.BadGzipFile, zlib.error, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"not a flight record: {error}") from None
    except (EOFError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"a flight record that is cut off or damaged ({type(error).__name__}: {error})") from None
