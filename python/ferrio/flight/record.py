"""``ferrio record``: run a program at the flight level and save what it did."""

import os
import sys

from .. import _ferrio, _program
from . import log

USAGE = f"usage: ferrio record [-o FILE] [--loop-only] {_program.WAYS}"

HELP = f"""{USAGE}

Run an asyncio program and save each wake-up and step with its cause and its cost; the newest half million are kept.

  -o FILE       where to (default: ferrio.xlog); `ferrio export` turns it into what other tools read
  --loop-only   ferrio's event loop, but asyncio's own queues, locks, streams, gather, …
  -h, --help    show this and exit"""


def main(words):
    """Record the program that the words name; what it returns or raises becomes the process's exit status."""
    words = list(words)
    path, loop_only = "ferrio.xlog", False
    while words and words[0] not in {"-m", "-c", "-"} and words[0].startswith("-"):
        word = words.pop(0)
        if word in {"-h", "--help"}:
            print(HELP)
            return 0
        if word == "--loop-only":
            loop_only = True
        elif word == "-o":
            if not words:
                return _refuse("argument expected for the -o option")
            path = words.pop(0)
        elif word.startswith("-o"):
            path = word[2:]
        else:
            return _refuse(f"unknown option: {word}")
    page = _ferrio.page_path()
    if page is None:
        return _refuse("this system has no tmpfs that the record could be kept on")
    # The program may change the directory.
    path = os.path.abspath(path)
    begun = False

    def before(name, source):
        nonlocal begun
        from .._install import install

        install(loop_only=loop_only)
        _ferrio.want_level("flight")
        begun = True

    try:
        return _program.run(words, before, _refuse)
    finally:
        if begun:
            _ferrio.want_level("pulse")
            saved = log.of_page(page)
            log.save(saved, path)
            print(f"ferrio: {len(saved.records)} records in {path}", file=sys.stderr)


def _refuse(reason):
    print(f"ferrio record: {reason}\n{USAGE}", file=sys.stderr)
    return 2
