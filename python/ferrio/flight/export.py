"""``ferrio export``: turn a flight record into what other tools read."""

import contextlib
import os
import sys

from .._telling import to_nowhere
from . import chrome, events, lines, log, perfetto

USAGE = "usage: ferrio export (--perfetto | --chrome | --html | --jsonl) [-o OUT] FILE.xlog"

HELP = f"""{USAGE}

Turn what `ferrio record` or `ferrio dump` has saved into

  --perfetto    a trace for https://ui.perfetto.dev: tracks of tasks, wake-ups as arrows
  --chrome      Chrome's trace events (JSON), for viewers that do not know the former
  --html        one self-contained page, as `ferrio explain --page`
  --jsonl       a line of JSON for each record

  -o OUT        where to (default: FILE with the format's own ending; - for standard output)
  -h, --help    show this and exit"""


def _page(flight, file):
    from .. import page

    file.write(page.render(flight.deep or events.events(flight)))


#: What each format is called: its ending, whether it is text, and what writes it.
FORMATS = {
    "--perfetto": (".pftrace", False, perfetto.write),
    "--chrome": (".json", True, chrome.write),
    "--html": (".html", True, _page),
    "--jsonl": (".jsonl", True, lines.write),
}


def main(words):
    """Export the file that the words name. Returns the exit status."""
    words, out, chosen, files = list(words), None, None, []
    while words:
        word = words.pop(0)
        if word in {"-h", "--help"}:
            print(HELP)
            return 0
        if word in FORMATS:
            chosen = word
        elif word == "-o":
            if not words:
                return _refuse("argument expected for the -o option")
            out = words.pop(0)
        elif word.startswith("-") and word != "-":
            return _refuse(f"unknown option: {word}")
        else:
            files.append(word)
    if chosen is None:
        return _refuse(f"which format? One of {', '.join(FORMATS)}")
    if len(files) != 1:
        return _refuse("which file?")
    ending, is_text, write = FORMATS[chosen]
    try:
        flight = log.load(files[0])
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        print(f"ferrio export: {files[0]}: {reason}", file=sys.stderr)
        return 2
    out = out or os.path.splitext(files[0])[0] + ending
    try:
        with _opened(out, is_text) as file:
            write(flight, file)
            file.flush()  # here, and not at the end of the process, where nobody could be told
    except BrokenPipeError:
        # Whoever reads it has had enough (`| head`).
        to_nowhere(sys.stdout)
    except OSError as error:
        print(f"ferrio export: {out}: {error.strerror}", file=sys.stderr)
        return 2
    if out != "-":
        print(out)
    return 0


def _opened(path, is_text):
    if path == "-":
        return contextlib.nullcontext(sys.stdout if is_text else sys.stdout.buffer)
    return open(path, "w", encoding="utf-8") if is_text else open(path, "wb")


def _refuse(reason):
    print(f"ferrio export: {reason}\n{USAGE}", file=sys.stderr)
    return 2
