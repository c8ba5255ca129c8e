"""``ferrio dump``: save the flight record of another process, which may be blocked, stopped or dead."""

import json
import sys

from ..live import command
from ..live.attach import NotThere, find
from . import log


def main(words):
    """Save the record of the process that the words name. Returns the exit status."""
    parser = command.parser(
        "dump",
        "Save the newest wake-ups and steps of a process: of one at the level flight (`ferrio level PID flight`), or what is "
        "left of one that was. It need not answer: it may be blocked, stopped, or dead by `kill -9`.",
    )
    parser.add_argument(
        "-o",
        dest="file",
        metavar="FILE",
        help="where to (default: PID.xlog); `ferrio export` makes of it what others read",
    )
    options = parser.parse_args(words)
    try:
        process = find(options.process)
        saved = log.of_page(process.path)
    except (NotThere, OSError) as error:
        return _refuse(error)
    path = options.file or f"{process.pid}.xlog"
    try:
        log.save(saved, path)
    except OSError as error:
        return _refuse(f"{path}: {error.strerror}")
    count, level = len(saved.records), saved.process["level"]
    if options.json:
        print(json.dumps({"pid": process.pid, "file": path, "records": count, "level": level}))
    else:
        print(f"{count:,} records in {path}")
        if not count:
            print(f"(nothing was recorded: the process is at level {level}; see `ferrio level`)")
    return 0


def _refuse(reason):
    print(f"ferrio dump: {reason}", file=sys.stderr)
    return 2
