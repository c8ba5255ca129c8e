"""``ferrio dump``: save the flight record of another process, which may be blocked, stopped or dead."""

import json
import os
import sys

from .. import _ferrio
from . import log

USAGE = "usage: ferrio dump [-o FILE] [--json] PID"

HELP = f"""{USAGE}

Save the newest wake-ups and steps of a process: of one at the level flight (`ferrio level PID flight`), or what is left of
one that was. It need not answer: it may be blocked, stopped, or dead by `kill -9`.

  -o FILE       where to (default: PID.xlog); `ferrio export` turns it into what other tools read
  --json        say in JSON what was saved
  -h, --help    show this and exit"""


def main(words):
    """Save the record of the process that the words name. Returns the exit status."""
    words, path, as_json = list(words), None, False
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word in {"-h", "--help"}:
            print(HELP)
            return 0
        if word == "--json":
            as_json = True
        elif word == "-o" and words:
            path = words.pop(0)
        else:
            return _refuse("argument expected for the -o option" if word == "-o" else f"unknown option: {word}", USAGE)
    match words:
        case [pid] if pid.isdecimal():
            return _save(int(pid), path or f"{pid}.xlog", as_json)
        case [word]:
            return _refuse(f"{word!r} is no process's number", USAGE)
    return _refuse("which process?", USAGE)


def _save(pid, path, as_json):
    folder = _ferrio.page_folder()
    page = folder and os.path.join(folder, f"{pid}.loop")
    if not page or not os.path.exists(page):
        return _refuse(f"process {pid} has no loop of ferrio's (or is another user's)")
    try:
        saved = log.of_page(page)
        log.save(saved, path)
    except OSError as error:
        return _refuse(str(error))
    count = len(saved.records)
    if as_json:
        print(json.dumps({"pid": pid, "file": path, "records": count, "level": saved.process["level"]}))
    else:
        print(f"{count} records in {path}")
        if not count:
            print(f"(nothing was recorded: the process is at level {saved.process['level']}; see `ferrio level`)")
    return 0


def _refuse(reason, usage=""):
    print(f"ferrio dump: {reason}" + (f"\n{usage}" if usage else ""), file=sys.stderr)
    return 2
