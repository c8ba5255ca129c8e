"""Counts instructions, and compares. Called by ci/instructions.sh, which says what for.

Only what is done in user space counts, per operation, without start-up, and nothing depends on the clock or on chance:
hashes and addresses are fixed, garbage is not collected. Instructions within the extension are ours, the others are
the interpreter's and the C library's on our behalf.

An interpreter that was compiled differently takes others for the same work. Then the recorded figures are converted by
the path `interpreter` of hot_paths.py, and because this is rough, more is tolerated. `--against` needs no conversion.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECORDS = HERE / "instructions.json"

#: What two builds of one source may differ by: the compiler lays out and inlines each as it sees fit.
NOISE = 0.01

#: How much more a path may take: with what the figures were recorded with, and otherwise.
TOLERANCE, ROUGH_TOLERANCE = 1.03, 1.15

#: What recording may cost over a build that cannot record: instructions of the extension a step, a turn, a sleep (two
#: readings of the clock and two histograms, beside a system call that takes thousands), and a task of the path: at flight it
#: is named in the ring.
LEVELS = {"pulse": (4, 25, 300, 80), "flight": (450, 100, 450, 3000)}
#: How many tasks an operation of a path makes.
TASKS = {"run_until_complete": 1, "task": 1, "gather": 4}

#: The path that is no path of ours.
YARDSTICK = "interpreter"


def compiled():
    """What figures depend on besides the code: the interpreter's machine code, and the Rust compiler."""
    shared = sysconfig.get_config_var("INSTSONAME")
    library = Path(sysconfig.get_config_var("LIBDIR") or "", shared or "")
    binary = library if library.is_file() else Path(sys.executable).resolve()
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    digest = hashlib.sha256(binary.read_bytes()).hexdigest()[:12]
    return f"Python {platform.python_version()} {digest}, {rustc}"


def own_costs(lines):
    """object file -> instructions in it, of a file in callgrind's format."""
    costs, names, current, is_call = {}, {}, "", False
    for line in lines:
        if found := re.match(r"c?ob=(?:\((\d+)\) ?)?(.*)", line):
            number, name = found.groups()
            if number and name:
                names[number] = name
            if not line.startswith("c"):
                current = names[number] if number else name
        elif line.startswith("calls="):
            is_call = True  # the next line is what the call costs, which is another's
        elif re.match(r"[0-9+*-]", line):
            if not is_call:
                costs[current] = costs.get(current, 0) + int(line.split()[1])
            is_call = False
    return costs


def count(package):
    """path -> instructions of an operation, as [ours, others]."""
    return {name: figures for name, (figures, _) in walk(package).items()}


def walk(package, *arguments):
    """path -> (instructions of an operation as [ours, others], its [steps, turns, sleeps])."""
    dumps = Path(package).parent / f"{Path(package).name}.callgrind"
    command = [
        "setarch", "--addr-no-randomize", "valgrind", "--quiet", "--tool=callgrind", "--dump-before=ctermid",
        f"--callgrind-out-file={dumps}", sys.executable, "-S", "-s", str(HERE / "hot_paths.py"), "ferrio:new_event_loop",
        *arguments,
    ]  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package), "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures = {}
    # A dump before the counted part and one after it, of every path; the latter has what is between them.
    for number, line in enumerate(done.stdout.splitlines()):
        name, operations, *counters = line.split()
        with open(f"{dumps}.{2 * number + 2}") as file:
            costs = own_costs(file)
        ours = sum(cost for binary, cost in costs.items() if "/_ferrio." in binary)
        per_operation = [round(part / int(operations), 1) for part in (ours, sum(costs.values()) - ours)]
        figures[name] = per_operation, [int(counter) / int(operations) for counter in counters]
    return figures


def compare_levels(package, without):
    """Prints what each level costs over the package `without` the feature: how many paths cost more than they may."""
    bare, failures = walk(without), 0
    for level, prices in LEVELS.items():
        head = ("without", "with", "more", "may be", "steps", "turns", "sleeps")
        print(f"{'instructions at ' + level:28}" + "".join(f"{title:>9}" for title in head))
        for name, (figures, counters) in walk(package, level).items():
            # Ours alone: what the interpreter does besides differs by more than this from build to build.
            before, now = bare[name][0][0], figures[0]
            counts = [*counters, TASKS.get(name, 0)]
            allowed = sum(price * number for price, number in zip(prices, counts)) + NOISE * before
            failed = now - before > allowed
            failures += failed
            print(
                f"{name:28}{before:9,.0f}{now:9,.0f}{now - before:9,.1f}{allowed:9,.1f}"
                + "".join(f"{counter:9.2f}" for counter in counters)
                + "  too much" * failed
            )
    return failures


def compare(now, before, convert, tolerance):
    """Prints what has changed: how many paths take more than is tolerated."""
    failures, better = 0, 0
    print(f"{'instructions':28}{'ours':>10}{'others':>10}{'all':>10}{'before':>10}{'change':>9}")
    for name, (ours, others) in now.items():
        line = f"{name:28}{ours:10,.0f}{others:10,.0f}{ours + others:10,.0f}"
        if name == YARDSTICK or name not in before:
            print(line)
            continue
        expected = before[name][0] + before[name][1] * convert
        change = (ours + others) / expected
        failed = change > tolerance
        failures += failed
        better += change < 2 - tolerance
        print(f"{line}{expected:10,.0f}{change - 1:+9.1%}{'  too much' * failed}")
    if better:
        print(f"{better} paths take much less than before: once that is to stay, --record")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package")
    parser.add_argument("--against", metavar="PACKAGE")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--without-record", metavar="PACKAGE")
    options = parser.parse_args()

    if options.without_record:
        failures = compare_levels(options.package, options.without_record)
        print(f"instructions: {failures} paths pay too much for being recorded" if failures else "instructions: fine")
        return 1 if failures else 0

    version = "{}.{}".format(*sys.version_info)
    records = json.loads(RECORDS.read_text()) if RECORDS.exists() else {}
    now, compiled_now = count(options.package), compiled()
    if options.record:
        records[version] = {"compiled": compiled_now, "figures": now}
        # A path a line, so that a change shows which.
        text = json.dumps(records, indent=1, sort_keys=True)
        RECORDS.write_text(re.sub(r"\[\s+(\S+)\s+(\S+)\s+\]", r"[\1 \2]", text) + "\n")
        print(f"recorded for Python {version}")
        return 0
    if options.against:
        before, convert, tolerance = count(options.against), 1.0, TOLERANCE
    elif version not in records:
        sys.exit(f"instructions: there are no figures for Python {version}: --against REV, or --record")
    else:
        before = records[version]["figures"]
        same = records[version]["compiled"] == compiled_now
        convert = 1.0 if same else sum(now[YARDSTICK]) / sum(before[YARDSTICK])
        tolerance = TOLERANCE if same else ROUGH_TOLERANCE
        if not same:
            print(
                f"The figures are of {records[version]['compiled']}; this is {compiled_now}: converted, "
                f"and up to {tolerance - 1:.0%} more is tolerated. --against REV compares exactly."
            )
    failures = compare(now, before, convert, tolerance)
    print(f"instructions: {failures} paths take over {tolerance - 1:.0%} more" if failures else "instructions: fine")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
