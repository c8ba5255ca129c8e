"""``ferrio explain``: the command line."""

import json
import sys

from .. import _program
from .._telling import writing
from .recorder import Recorder
from .story import Story, on_terminal, wait_for_key

USAGE = f"usage: ferrio explain [options] {_program.WAYS}"

HELP = f"""{USAGE}

Run an asyncio program and tell the story of that run, live: who runs, who gives the thread back at which line, what will
wake it, what the loop asks the operating system, what woke it, and why. The program's own output stays in its place.

  --fast        on a virtual clock: waiting takes no time (where only timers are waited for)
  --step        wait for a key after each line; "q" tells the rest at once
  -v            asyncio's inner callbacks and tasks, too, each with why it exists
  --json        the events, one JSON object a line, instead of the story
  --page FILE   write the story as one self-contained web page, too
  --loop-only   ferrio's event loop, but asyncio's own queues, locks, streams, gather, …
  -h, --help    show this and exit"""


def main(words):
    """Tell of the program that the words name; what it returns or raises becomes the process's exit status."""
    options, words = {}, list(words)
    while words and words[0] not in {"-m", "-c", "-"} and words[0].startswith("-"):
        word = words.pop(0)
        if word in {"-h", "--help"}:
            print(HELP)
            return 0
        name, equals, value = word.partition("=")
        if name == "--page":
            if not equals and not words:
                return _refuse("argument expected for the --page option")
            options["page"] = value if equals else words.pop(0)
        elif word in {"--fast", "--step", "-v", "--json", "--loop-only"}:
            options[word.lstrip("-")] = True
        else:
            return _refuse(f"unknown option: {word}")
    if "page" in options:
        try:
            open(options["page"], "a").close()
        except OSError as error:
            return _refuse(f"can't write to {options['page']}: {error.strerror}")
    return _tell(words, options)


def _refuse(reason):
    print(f"ferrio explain: {reason}\n{USAGE}", file=sys.stderr)
    return 2


def _tell(words, options):
    out = sys.stdout
    kept = [] if options.get("page") else None
    recorder = Recorder(None, virtual=options.get("fast", False), everything=options.get("v", False))
    tell = _json(out) if options.get("json") else _story(out, recorder, options)

    def emit(event):
        if event["event"] == "head":
            recorder.sentences.begin(event)
        if kept is not None:
            kept.append(event)
        tell(event)

    recorder._emit = emit
    begun = False

    def before(name, source):
        nonlocal begun
        from .._install import install

        install(loop_only=options.get("loop-only", False))
        begun = True
        recorder.begin(name, source)

    error = None
    try:
        return _program.run(words, before, _refuse)
    except BaseException as raised:
        error = raised
        raise
    finally:
        if begun:
            recorder.end(error)
            if kept is not None:
                _write_page(options["page"], kept, recorder)
        # No cycle of an exception, its traceback and this frame.
        error = None


def _story(out, recorder, options):
    write, layout = on_terminal(out)
    step = None
    if options.get("step"):
        step = _Stepping(out)
    return Story(write, recorder.sentences, step=step, **layout)


class _Stepping:
    def __init__(self, stream):
        self._stream = stream
        self._on = True

    def __call__(self):
        if self._on:
            self._on = wait_for_key(self._stream)


def _json(out):
    write = writing(out)
    return lambda event: write(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n")


def _write_page(path, events, recorder):
    from .. import page

    events[0] = events[0] | {"sources": recorder.places.sources}
    with open(path, "w", encoding="utf-8") as file:
        file.write(page.render(events))
