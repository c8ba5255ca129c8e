"""The story on a terminal: when, who, what. One event per line, repetition folded, colours only where they are seen."""

import os
import re
import shutil
import signal
import textwrap

from .._telling import writing

_SYMBOLS = {
    "queued": "+", "start": "▶", "resume": "▶", "pause": "⏸", "ready": "→", "finish": "■", "cancel": "✗", "asleep": "☾",
    "awake": "☀", "mistake": "⚠", "callback": "·", "loop": " ", "output": "│",
}  # fmt: skip
_COLOURS = {
    "start": "32", "resume": "32", "pause": "33", "finish": "36", "cancel": "35", "asleep": "34", "awake": "34",
    "mistake": "1;31", "queued": "2", "ready": "2", "callback": "2", "loop": "2",
}  # fmt: skip

#: What wakes a loop.
_NEWS = {"timer", "socket", "thread", "signal", "child"}

#: Repetition is told in full this often.
_TIMES = 3
#: At least so many events are shown before anything is folded.
_LEAST = 12
#: Patterns of up to so many events are seen to repeat.
_PATTERN = 48
#: No kind of event at one line is shown more often than this.
_AT_MOST = 40

_UNIT = re.compile(r"(\d) (s|ms|µs|ns)\b")

#: The narrowest and the widest layout, in columns, unless COLUMNS says otherwise.
_WIDTH = (80, 120)
_INDENT = 12


class Folding:
    """Says which events are repetition: those of a pattern that has been told three times, and those told very often."""

    def __init__(self):
        self._history = []
        self._runs = [0] * (_PATTERN + 1)
        self._shown = {}
        self._numbers = {}

    def repeats(self, event):
        signature = self._numbers.setdefault(_signature(event), len(self._numbers))
        history = self._history
        folded = False
        for period in range(1, _PATTERN + 1):
            if len(history) >= period and history[-period] == signature:
                self._runs[period] += 1
                folded = folded or self._runs[period] > max((_TIMES - 1) * period, _LEAST)
            else:
                self._runs[period] = 0
        history.append(signature)
        del history[:-_PATTERN]
        if not folded:
            count = self._shown[signature] = self._shown.get(signature, 0) + 1
            folded = count > _AT_MOST
        return folded


def _signature(event):
    """What makes two events the same in the eyes of a reader: not the time, and not which of many tasks of one name."""
    name = event.get("name", "").partition("#")[0]
    kinds = (
        tuple(cause["kind"] for cause in event.get("by", ()) if isinstance(cause, dict))
        if event["event"] == "awake"
        else ()
    )
    wait = event.get("waits") or {}
    return event["event"], name, event.get("file"), event.get("line"), wait.get("kind"), event.get("outcome"), kinds


class Story:
    """Prints a story, event by event.

    :param write: where lines go.
    :param sentences: says the headline and what folding says.
    :param colours: whether they are seen.
    :param width: columns.
    :param step: called after each event that is printed.
    """

    def __init__(self, write, sentences, *, colours=False, width=100, step=None):
        self._write = write
        self._sentences = sentences
        self._colours = colours
        self._width = width
        self._step = step
        self._folding = Folding()
        #: How many events are folded at present, and the last of them.
        self._folded, self._last_folded = 0, None
        self._column = 10
        self._partial = None
        self._virtual = False
        self._waking = None
        self._woken = []
        self._cancelled = None
        self._names = {}

    def __call__(self, event):
        kind = event["event"]
        if "task" in event:
            self._names[event["task"]] = event["name"]
        if kind == "head":
            self._virtual = event["clock"] == "virtual"
            lines = self._wrap(self._sentences.headline(event), 1)
            self._write("".join(["\n", *(f" {line}\n" for line in lines), "\n"]))
            return
        if kind == "output":
            if self._waking is not None:
                self._end_waking()
            self._output(event)
            return
        if self._waking is not None:
            if kind == "ready" and event["because"]["kind"] in _NEWS and not self._folding.repeats(event):
                self._woken.append(event)
                return
            self._end_waking()
        if kind == "ready" and event["because"]["kind"] == "cancel" and self._cancelled == event["name"]:
            # Its cancellation has said so.
            return
        self._cancelled = event["name"] if kind == "cancel" or event.get("cancelled") else None
        self._end_output()
        if kind == "bill":
            self._end_folding()
            self._bill(event)
            return
        if kind != "mistake" and self._folding.repeats(event):
            self._folded, self._last_folded = self._folded + 1, event
            return
        self._end_folding()
        if kind == "awake":
            # Held back for a moment: who becomes ready by it is said in the same line.
            self._waking, self._woken = event, []
            return
        self._print(event)

    def _end_waking(self):
        event, self._waking = self._waking, None
        if self._woken:
            names = [each["name"] for each in self._woken]
            event = event | {
                "text": f"{event['text']} {self._sentences.merged(names)}",
                "ready": self._woken[-1]["ready"],
            }
        self._print(event)

    # --- one event ---------------------------------------------------------------------------------------------------

    def _print(self, event):
        kind = event["event"]
        who, text = _subject(event)
        self._column = max(self._column, min(len(who), 20))
        head = f"{self._time(event['t'])} {_SYMBOLS[kind]} {who:{self._column}} "
        lines = self._wrap(text, len(head))
        ready = event.get("ready", ())
        if len(ready) > 1:
            queue = self._line_up([self._names.get(task, "…") for task in ready], self._width - len(head))
            room = self._width - len(head) - len(lines[-1]) - len(queue)
            if room >= 3:
                lines[-1] += " " * room + self._paint(queue, "2")
            else:
                lines.append(" " * max(0, self._width - len(head) - len(queue)) + self._paint(queue, "2"))
        colour = _COLOURS.get(kind)
        first = f"{self._time(event['t'])} {self._paint(f'{_SYMBOLS[kind]} {who:{self._column}}', colour)} {lines[0]}"
        margin = " " * len(head)
        if kind == "asleep":
            margin = f"{' ' * _INDENT}{self._paint('┊', colour)}{' ' * (len(head) - _INDENT - 1)}"
        self._write("\n".join([first, *(margin + line for line in lines[1:])]) + "\n")
        if self._step is not None:
            self._step()

    @staticmethod
    def _line_up(names, width):
        """The ready queue: as much of it as there is room for in a line."""
        for shown in range(min(8, len(names)), 0, -1):
            more = "" if shown == len(names) else f", … ({len(names)})"
            queue = f"ready: {', '.join(names[:shown])}{more}"
            if len(queue) <= width:
                return queue
        return f"{len(names)} are ready"

    def _wrap(self, text, margin):
        width = max(30, self._width - margin)
        # A number and its unit stay together.
        parts = _UNIT.sub("\\1\N{NO-BREAK SPACE}\\2", text).split("\n")
        lines = [line for part in parts for line in textwrap.wrap(part, width, break_on_hyphens=False) or [""]]
        return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]

    def _time(self, seconds):
        if self._virtual or seconds >= 1000:
            return f"{seconds:8.3f} s "
        return f"{seconds * 1e3:8.2f} ms"

    def _paint(self, text, colour):
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours and colour else text

    # --- the program's output ----------------------------------------------------------------------------------------

    def _output(self, event):
        bar = "│" if event["stream"] == "stdout" else "┃"
        if self._partial is not None and self._partial != bar:
            self._end_output()
        for line in event["output"].splitlines(keepends=True):
            if self._partial is None:
                self._write(f"{' ' * _INDENT}{self._paint(bar, '32' if bar == '│' else '31')} ")
            self._write(line)
            self._partial = None if line.endswith("\n") else bar

    def _end_output(self):
        if self._partial is not None:
            self._write("\n")
            self._partial = None

    # --- folding and the end -----------------------------------------------------------------------------------------

    def _end_folding(self):
        count, self._folded = self._folded, 0
        if count == 1:
            # It takes as much room as saying that it is left out.
            self._print(self._last_folded)
        elif count:
            self._write(f"{' ' * _INDENT}{self._paint(self._sentences.folded(count), '2')}\n")

    def _bill(self, event):
        lines = event["text"].split("\n")
        out = ["\n"]
        for line in lines:
            if line.isupper() or line.startswith("THE BILL"):
                out.append(f" {self._paint(line, '1')}\n")
            else:
                first, *more = self._wrap(line, _INDENT + 2)
                out += [f"{' ' * _INDENT}{first}\n", *(f"{' ' * _INDENT}  {each}\n" for each in more)]
        self._write("".join(out))


def _subject(event):
    """Who it is about, and the rest of the sentence."""
    text = event["text"]
    name = event.get("name")
    if name and text.startswith(name):
        return name, text[len(name) :].lstrip()
    if text.startswith("The loop "):
        return "LOOP", text[len("The loop ") :]
    return "", text


def on_terminal(stream, **options):
    """A story on a stream: with colours and in its width if it is a terminal."""
    is_terminal = stream.isatty()
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit():
        width = int(columns)
    else:
        width = min(max(shutil.get_terminal_size((100, 24)).columns, _WIDTH[0]), _WIDTH[1]) if is_terminal else 100
    colours = is_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"

    return writing(stream), {"colours": colours, "width": width}


def wait_for_key(stream):
    """For ``--step``: goes on at a key; "q" tells the rest without waiting. False once nobody wants to wait any more."""
    try:
        terminal = open("/dev/tty", "rb", buffering=0)
    except OSError:
        return False
    with terminal:
        import termios
        import tty

        former = termios.tcgetattr(terminal)
        try:
            tty.setcbreak(terminal, termios.TCSANOW)
            # Ctrl-C is a key like others: else asyncio's handler would have heard of it, and we would go on waiting.
            modes = termios.tcgetattr(terminal)
            modes[6][termios.VINTR] = b"\0"
            termios.tcsetattr(terminal, termios.TCSANOW, modes)
            key = terminal.read(1)
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, former)
    if key == b"\x03":
        signal.raise_signal(signal.SIGINT)
    return key not in {b"q", b"", b"\x03"}
