"""``python -m ferrio script.py`` and ``ferrio script.py``: run a program as ``python`` would, on ferrio's loop.

``ferrio record script.py`` and its like are sub-commands: a module each, which is imported only when it is asked for.
"""

import importlib
import sys

from . import _program

#: The sub-commands: what each is for, and the module whose ``main(words)`` it is. (A script of that name is ``./record``.)
COMMANDS = {
    "explain": ("run a program and tell, event by event, what its loop does and why", "explain.command"),
    "top": ("what a running process does, live: tasks, sockets, timers", "live.top"),
    "why": ("what each task of a running process waits for, and who could end that", "live.why"),
    "doctor": ("what is wrong with a running process", "live.doctor"),
    "level": ("how much a running process records of itself", "live.level"),
    "record": ("run a program and save each wake-up and step with its cause", "flight.record"),
    "dump": ("save that of a process that runs, or has run", "flight.dump"),
    "export": ("turn what was saved into a Perfetto trace, a page, …", "flight.export"),
}

USAGE = f"""\
usage: ferrio [-h] [-V] [--loop-only] {_program.WAYS}
       ferrio COMMAND …"""

_COMMANDS = "\n".join(f"  {name:13} {purpose}" for name, (purpose, _) in COMMANDS.items())

HELP = f"""{USAGE}

Run an asyncio program, unmodified, on ferrio.

  script.py     a file; or a directory or zip archive with a __main__.py in it
  -m module     a module, as `python -m module`
  -c code       the code itself, as `python -c code`
  -             read the program from standard input
  -h, --help    show this and exit
  -V, --version show the version and exit
  --loop-only   ferrio's event loop, but asyncio's own queues, locks, streams, gather, …

Commands (`ferrio COMMAND -h` says more):

{_COMMANDS}

asyncio.run(), asyncio.Runner() and asyncio.new_event_loop() make ferrio's loop, and asyncio.Queue, asyncio.gather, … are
ferrio's. A program that names another loop or policy itself keeps it. Options for the interpreter go before `-m`:  python -X dev -m ferrio script.py"""


def main():
    """Do what the command line says; what returns or raises becomes the process's exit status."""
    words = sys.argv[1:]
    match words:
        case [("-h" | "--help"), *_]:
            print(HELP)
            return 0
        case [("-V" | "--version"), *_]:
            from . import __version__

            print(f"ferrio {__version__} (Python {sys.version.split()[0]})")
            return 0
        case [command, *rest] if command in COMMANDS:
            return importlib.import_module(f"ferrio.{COMMANDS[command][1]}").main(rest)
    return _run(words)


def _run(words):
    loop_only = words[:1] == ["--loop-only"]

    def before(name, source):
        from ._install import install

        install(loop_only=loop_only)

    return _program.run(words[loop_only:], before, _refuse)


def _refuse(reason):
    print(f"ferrio: {reason}\n{USAGE}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
