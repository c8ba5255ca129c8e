"""``ferrio top``: the processes that have a loop, or what one of them does, again and again on one screen."""

import argparse
import json
import os
import select
import shutil
import sys
import time

from . import screen
from .attach import NotThere, Process, find, processes


def main(arguments):
    parser = argparse.ArgumentParser(
        prog="ferrio top",
        description="What a running process does. Keys: t tasks, s sockets, i timers, e executors, q quit, ? help.",
    )
    parser.add_argument(
        "process", nargs="?", metavar="PID", help="its number, or a word of its command line; without: all processes"
    )
    parser.add_argument("--once", action="store_true", help="one screen, and exit")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="how often to look (default: 1)")
    parser.add_argument("--json", action="store_true", help="one JSON object per look")
    options = parser.parse_args(arguments)
    try:
        process = find(options.process) if options.process else None
    except NotThere as error:
        print(f"ferrio top: {error}", file=sys.stderr)
        return 1
    if options.once or options.json or not (sys.stdout.isatty() and sys.stdin.isatty()):
        return _print(process, options)
    return _live(process, options.every)


class Look:
    """One look at a process, and the one before it: rates are their difference."""

    def __init__(self, process, former=None):
        self.process = process
        self.silent = process.refresh(0.2)
        self.at = time.monotonic()
        self.loops = [one for one in process.loops() if one["state"] != "idle" or not process.is_alive]
        self.snapshots = {one["slot"]: process.snapshot(one["slot"]) for one in self.loops}
        self.records = process.page.records()[-20_000:] if process.about["level"] != "pulse" else []
        self._former = former

    def rate(self, one, name):
        """How much of something there is in a second."""
        before = self._before(one)
        seconds = self.at - self._former.at if before else 0
        return (one[name] - before[name]) / seconds if seconds > 0 else None

    def busy(self, one):
        """The share of the time in which the loop did not sleep."""
        asleep = self.rate(one, "asleep")
        return None if asleep is None else min(1.0, max(0.0, 1 - asleep))

    def _before(self, one):
        loops = self._former.loops if self._former else []
        return next((other for other in loops if other["number"] == one["number"]), None)


def looks(process, every):
    """Looks, until the process is gone."""
    look = Look(process)
    while True:
        time.sleep(every)
        look = Look(Process(process.pid), look)
        yield look


def _print(process, options):
    if process is None:
        found = _listed()
        print(json.dumps(found) if options.json else "\n".join(screen.listing(found, _width())))
        return 0
    if not process.is_alive or process.is_stopped:
        look = Look(process)
        print(json.dumps(_plain(look)) if options.json else "\n".join(screen.page(look, "t", _width(), None)))
        return 0
    try:
        for look in looks(process, 0.3 if options.once else options.every):
            print(
                json.dumps(_plain(look)) if options.json else "\n".join(screen.page(look, "t", _width(), None)),
                flush=True,
            )
            if options.once or not look.process.is_alive:
                return 0
    except NotThere as error:
        print(f"ferrio top: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _plain(look):
    loops = []
    for one in look.loops:
        rates = {
            "busy": look.busy(one),
            "steps_per_second": look.rate(one, "steps"),
            "turns_per_second": look.rate(one, "turns"),
        }
        loops.append(one | rates | {"snapshot": look.snapshots[one["slot"]]})
    about = look.process.about
    return {"pid": look.process.pid, "title": about["title"], "runtime": about["runtime"], "alive": look.process.is_alive,
            "stopped": look.process.is_stopped, "level": about["level"], "loops": loops, "unwatched": about["unwatched"]}  # fmt: skip


def _listed():
    """All processes with a page, as plain data."""
    found = []
    for path in processes():
        try:
            process = Process(int(path.stem))
        except (NotThere, ValueError):
            continue
        if process.pid == os.getpid():
            continue
        loops = [one for one in process.loops() if one["state"] != "idle"]
        snapshots = [snapshot for snapshot in (process.snapshot(one["slot"]) for one in process.loops()) if snapshot]
        # (One that has slept ever since has left none.)
        tasks = sum(snapshot["tasks"]["count"] for snapshot in snapshots) if len(snapshots) >= len(loops) else None
        state = (
            "gone"
            if not process.is_alive
            else "stopped"
            if process.is_stopped
            else loops[0]["state"]
            if loops
            else "idle"
        )
        up = time.monotonic() - process.about["began_monotonic"]
        found.append({"pid": process.pid, "state": state, "loops": len(loops), "unwatched": process.about["unwatched"],
                      "tasks": tasks, "up": round(up, 1), "runtime": process.runtime, "title": process.title})  # fmt: skip
    return found


def _width():
    return max(60, shutil.get_terminal_size((80, 24)).columns)


# --- on a terminal ---------------------------------------------------------------------------------------------------


def _live(process, every):
    import termios
    import tty

    terminal = sys.stdin.fileno()
    former = termios.tcgetattr(terminal)
    view, look = "t", None
    # The other screen, no cursor.
    sys.stdout.write("\x1b[?1049h\x1b[?25l")
    try:
        tty.setcbreak(terminal)
        while True:
            size = shutil.get_terminal_size((80, 24))
            lines, look = _lines(process, look, view, size)
            text = "\n".join(line + "\x1b[K" for line in lines[: size.lines])
            sys.stdout.write(f"\x1b[H{text}\x1b[J")
            sys.stdout.flush()
            if select.select([terminal], [], [], every)[0]:
                key = os.read(terminal, 16).decode(errors="replace").lower()[:1]
                if key in {"q", "\x1b", ""}:
                    return 0
                view = key if key in "tsie?" else view
    except KeyboardInterrupt:
        return 0
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, former)
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()


def _lines(process, look, view, size):
    if process is None:
        return screen.listing(_listed(), size.columns), None
    try:
        look = Look(Process(process.pid), look)
    except NotThere as error:
        return [str(error), "", "q quits"], None
    return screen.page(look, view, size.columns, size.lines), look
