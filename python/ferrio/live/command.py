"""What ``ferrio why``, ``ferrio doctor`` and their like share: a process to look at, an answer that is plain data, and how it is told."""

import argparse
import json
import sys

from .._telling import writing
from .attach import NotThere, find


def parser(name, description):
    """The options that each has; a command adds its own."""
    made = argparse.ArgumentParser(prog=f"ferrio {name}", description=description)
    made.add_argument("process", metavar="PID", help="its number, or a word of its command line")
    made.add_argument("--json", action="store_true", help="the same as one JSON object")
    return made


def answer(parser, options, ask, tell):
    """Prints what ``ask(process)`` finds out, as JSON or as ``tell(process, found)`` words it line by line.

    Returns what was found; None if the process cannot be looked at, which is said instead.
    """
    try:
        process = find(options.process)
        found = ask(process)
    except NotThere as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return None
    text = json.dumps(found) if options.json else "\n".join(tell(process, found))
    writing(sys.stdout)(text + "\n")
    return found
