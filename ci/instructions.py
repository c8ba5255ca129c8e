"""Counts instructions, and compares. Called by ci/instructions.sh, which says what for.

What is counted depends on our source, the compiler and the minor version of Python, and on nothing else: instructions
within the extension, and how many calls leave it, which stand for what the interpreter and the C library do on our
behalf. How they do it, and how they were compiled, is left out. Neither does anything depend on the clock or on chance:
hashes and addresses are fixed, garbage is not collected, start-up does not count.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECORDS = HERE / "instructions.json"

#: What two builds of one source may differ by: the compiler lays out and inlines each as it sees fit.
NOISE = 0.01

#: How much more a path may take, in instructions as in calls.
TOLERANCE = 1.03

#: What recording may cost over a build that cannot record, in instructions of the extension: for an operation of a path, a
#: step, a turn, a sleep, a record of the flight, a task (which is named in the ring), a run of the loop. Pulse is meant to
#: take 1 ns a step: at 3 GHz and one instruction a cycle, three of them, and as many for queueing it (an operation's, as
#: are those for setting a timer and cancelling it). Less is measured: a step has one question whether more is recorded and
#: one store, and the rare branches keep nothing at hand. A turn may take what is 1 % of it and of its look at the operating
#: system; a sleep two readings of the clock and two histograms, beside a system call that takes thousands. A record of
#: flight is meant to take 25 ns: at 3 GHz and three instructions a cycle, 225 of them, of which 140 are allowed, because
#: one in every second record is the reading of the processor's counter and takes as long as 25 to 40 others.
LEVELS = {"pulse": (8, 3, 30, 300, 0, 0, 60), "flight": (36, 8, 40, 600, 140, 300, 200)}
#: How many tasks an operation of a path makes, and how many runs of the loop.
TASKS = {"run_until_complete": (1, 1), "task": (1, 0), "gather": (4, 0)}

PYTHON = "{}.{}".format(*sys.version_info)


def rustc():
    return subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def records():
    return json.loads(RECORDS.read_text()) if RECORDS.exists() else {"rustc": None, "figures": {}}


def hold():
    """Whether the recorded figures are of this compiler and this Python."""
    known = records()
    return known["rustc"] == rustc() and PYTHON in known["figures"]


def is_ours(binary):
    return "/_ferrio." in binary


def own_costs(lines):
    """(instructions in the extension, calls that leave it), of a file in callgrind's format."""
    instructions, calls, names, ours, callee, is_call = 0, 0, {}, False, None, False
    for line in lines:
        if found := re.match(r"(c?)ob=(?:\((\d+)\) ?)?(.*)", line):
            called, number, name = found.groups()
            if number and name:
                names[number] = name
            name = names[number] if number else name
            if called:
                callee = name
            else:
                ours = is_ours(name)
        elif line.startswith("calls="):
            # One within the same object does not name it.
            if ours and callee is not None and not is_ours(callee):
                calls += int(line[len("calls=") :].split()[0])
            callee, is_call = None, True  # the next line is what the call costs, which is another's
        elif re.match(r"[0-9+*-]", line):
            if ours and not is_call:
                instructions += int(line.split()[1])
            is_call = False
    return instructions, calls


def count(package):
    """path -> [instructions, calls] of an operation."""
    return {name: figures for name, (figures, _) in walk(package).items()}


def walk(package, *arguments):
    """path -> ([instructions, calls] of an operation, its [steps, turns, sleeps, records])."""
    dumps = Path(package).parent / f"{Path(package).name}.callgrind"
    command = [
        "setarch", "--addr-no-randomize", "valgrind", "--quiet", "--tool=callgrind", "--dump-before=ctermid",
        f"--callgrind-out-file={dumps}", sys.executable, "-S", "-s", str(HERE / "hot_paths.py"), "ferrio:new_event_loop",
        *arguments,
    ]  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package), "PYTHONHASHSEED": "0"}
    # Without a file there are no snapshots for those who might come later: when these are due, the clock decides.
    environment["FERRIO_PAGE"] = "off"
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures = {}
    # A dump before the counted part and one after it, of every path; the latter has what is between them.
    for number, line in enumerate(done.stdout.splitlines()):
        name, operations, *counters = line.split()
        with open(f"{dumps}.{2 * number + 2}") as file:
            per_operation = [round(part / int(operations), 1) for part in own_costs(file)]
        figures[name] = per_operation, [int(counter) / int(operations) for counter in counters]
    return figures


def compare_levels(package, without):
    """Prints what each level costs over the package `without` the feature: how many paths cost more than they may."""
    bare, failures = walk(without), 0
    for level, prices in LEVELS.items():
        head = ("without", "with", "more", "may be", "steps", "turns", "sleeps", "records")
        print(f"{'instructions at ' + level:28}" + "".join(f"{title:>9}" for title in head))
        for name, (figures, counters) in walk(package, level).items():
            before, now = bare[name][0][0], figures[0]
            counts = [1, *counters, *TASKS.get(name, (0, 0))]
            allowed = sum(price * number for price, number in zip(prices, counts)) + NOISE * before
            failed = now - before > allowed
            failures += failed
            print(
                f"{name:28}{before:9,.0f}{now:9,.0f}{now - before:9,.1f}{allowed:9,.1f}"
                + "".join(f"{counter:9.2f}" for counter in counters)
                + "  too much" * failed
            )
    return failures


def compare(now, before):
    """Prints what has changed: how many paths take more than is tolerated."""
    failures, better = 0, 0
    head = ("instructions", "before", "change", "calls out", "before", "change")
    print(f"{'path':28}" + "".join(f"{title:>13}" for title in head))
    for name, figures in now.items():
        former = before.get(name, (None, None))
        changes = [new / old - 1 for new, old in zip(figures, former) if old]
        cells = [
            f"{new:13,.0f}" + (f"{old:13,.0f}{new / old - 1:+13.1%}" if old else f"{'':26}")
            for new, old in zip(figures, former)
        ]
        failed = any(change > TOLERANCE - 1 for change in changes)
        failures += failed
        better += any(change < 1 - TOLERANCE for change in changes)
        print(f"{name:28}{''.join(cells)}{'  too much' * failed}")
    if better:
        print(f"{better} paths take much less than before: once that is to stay, --record")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", nargs="?")
    parser.add_argument("--against", metavar="PACKAGE")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--hold", action="store_true", help="only say whether the recorded figures hold here")
    parser.add_argument("--without-record", metavar="PACKAGE")
    options = parser.parse_args()
    if options.hold:
        return 0 if hold() else 1

    if options.without_record:
        failures = compare_levels(options.package, options.without_record)
        print(f"instructions: {failures} paths pay too much for being recorded" if failures else "instructions: fine")
        return 1 if failures else 0

    now = count(options.package)
    if options.record:
        known = records()
        if known["rustc"] != rustc():
            known = {"rustc": rustc(), "figures": {}}
        known["figures"][PYTHON] = now
        # A path a line, so that a change shows which.
        text = json.dumps(known, indent=1, sort_keys=True)
        RECORDS.write_text(re.sub(r"\[\s+(\S+)\s+(\S+)\s+\]", r"[\1 \2]", text) + "\n")
        print(f"recorded for Python {PYTHON}")
        return 0
    failures = compare(now, count(options.against) if options.against else records()["figures"][PYTHON])
    print(f"instructions: {failures} paths take over {TOLERANCE - 1:.0%} more" if failures else "instructions: fine")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
