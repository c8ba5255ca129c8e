"""``ferrio level PID pulse|flight|deep``: how much a running process records of itself."""

import json
import sys
import time

from . import command
from .attach import NotThere, find

_SAYS = {
    "pulse": "counters only",
    "flight": "every wake-up and step, in a ring of the newest 524,288",
    "deep": "as flight, and an observer in the process hears of everything, if it has one",
}


def main(arguments):
    parser = command.parser("level", "How much a running process records of itself.")
    parser.add_argument("level", choices=list(_SAYS), help="; ".join(f"{name}: {says}" for name, says in _SAYS.items()))
    parser.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="and then back to what it was")
    options = parser.parse_args(arguments)
    try:
        process = find(options.process)
        if not process.is_alive:
            raise NotThere(f"process {process.pid} is gone")
    except NotThere as error:
        print(f"ferrio level: {error}", file=sys.stderr)
        return 1
    former = process.about["level"]
    _set(process, options.level)
    if options.json:
        print(json.dumps({"pid": process.pid, "level": options.level, "former": former}))
    else:
        print(f"{process.pid}: {options.level} ({_SAYS[options.level]}); before: {former}")
    if options.seconds is not None:
        sys.stdout.flush()
        try:
            time.sleep(options.seconds)
        except KeyboardInterrupt:
            pass
        finally:
            _set(process, former)
        if not options.json:
            print(f"{process.pid}: {former} again")
    return 0


def _set(process, level):
    process.page.set_level(level)
    # A loop that sleeps heeds it when it wakes up.
    process.wake()
