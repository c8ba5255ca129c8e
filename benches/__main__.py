"""Runs the rows on every loop, prints tables and writes the figures of every round as JSON."""

import argparse
import datetime
import json
import platform
import re
import shlex
import sys
import time
from importlib import metadata
from pathlib import Path

from benches import loops, network, one_process, paired, report

FULL = {"rounds": 5, "seconds": 0.2, "sittings": 3}
QUICK = {"rounds": 3, "seconds": 0.2, "sittings": 1}

#: A row in which a loop's rounds differ by more than this part of their median is measured again, with fresh processes.
UNSTEADY = 0.1

KINDS = {"One process": one_process, "Server and client": network}


def parse():
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some of the rows, in fewer and shorter rounds")
    default = ",".join(name for name in loops.LOOPS if name not in loops.ON_REQUEST)
    parser.add_argument("--loops", default=default, help="comma-separated; default: %(default)s")
    parser.add_argument("--rows", default="", help="only the rows whose name matches this regular expression")
    parser.add_argument("--rounds", type=int, help="how many; default: 5, with --quick 3")
    parser.add_argument("--json", default="target/bench.json", help="where the figures go; default: %(default)s")
    options = parser.parse_args()
    options.loops = options.loops.split(",")
    unknown = [name for name in options.loops if name not in loops.LOOPS]
    if unknown:
        parser.error(f"unknown loop {unknown[0]!r}; there are {', '.join(loops.LOOPS)}")
    return options


def chosen(kind, options):
    """The names of the rows to be measured."""
    names = [name for name in kind.ROWS if re.search(options.rows, name)]
    return [name for name in names if kind.is_quick(name)] if options.quick else names


def taking_part(kind, row, present):
    """The loops that have something to say about the row, and the bare server where there is one."""
    if kind is not network:
        return {name: factory for name, factory in present.items() if name not in loops.ONLY_NETWORK}
    return present | ({network.BARE: network.BARE} if network.ROWS[row].bare else {})


def measure(title, row, present, effort):
    """A row of the document: the report of every round on every loop, or why a loop failed."""
    kind = KINDS[title]
    subjects = taking_part(kind, row, present)
    started = time.monotonic()
    most = kind.most_rounds(row)
    reports, failures = paired.sittings(
        1 if most else effort["sittings"],
        is_steady,
        min(effort["rounds"], most or effort["rounds"]),
        subjects,
        lambda factory: kind.start(row, factory),
        lambda subject: kind.measure(row, subject, effort),
    )
    print(f"  {row}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    return {
        "kind": title, "row": row, "unit": kind.unit(row), "loops": list(subjects), "reports": reports,
        "failures": failures,
    }  # fmt: skip


def is_steady(reports):
    """Whether the costs of each loop's rounds are about the same."""
    return all(paired.spread([each["cost"] for each in rounds]) <= UNSTEADY for rounds in reports.values())


def versions(present):
    """Of the loops' packages."""
    found = {}
    for name in present:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "Python's own"
    return found


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()


def describe(present, absent, options, effort):
    """How, where and when."""
    return {
        "command": shlex.join(["python", "-m", "benches", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {platform.system()} {platform.release()}",
        "python": f"{platform.python_version()} ({platform.python_compiler()})",
        "versions": versions(present),
        "absent": absent,
        "effort": effort,
        "loops": options.loops,
    }


def show(document, title):
    results = report.rows(document, title)
    if not results:
        return
    tables = [report.cost_table(results), report.rate_table(results)]
    for header, lines in tables:
        if lines:
            print("", *paired.table([title, *header[1:]], lines), sep="\n", flush=True)


def main():
    options = parse()
    present, absent = loops.split(options.loops)
    for name, reason in absent.items():
        print(f"{name} is absent: {reason}")
    if not present:
        sys.exit("no loop to measure")
    effort = dict(QUICK if options.quick else FULL)
    effort["rounds"] = options.rounds or effort["rounds"]
    started = time.monotonic()
    document = describe(present, absent, options, effort) | {"rows": []}
    for title, kind in KINDS.items():
        for row in chosen(kind, options):
            document["rows"].append(measure(title, row, present, effort))
        show(document, title)
    print("\nMedians of interleaved rounds. Ratios are ferrio's, medians of the rounds' own; below 1 it takes less.")
    for row, name, reason in report.failures(document):
        print(f"{row}: {name} fails: {reason}")
    lost = report.lost(document)
    print("\nRows where ferrio is above a peer by more than noise:" if lost else "\nferrio is above no peer.")
    for row, peers in lost:
        print(f"  {row}: " + ", ".join(f"{ratio} of {name}" for name, ratio in peers))
    document["seconds"] = round(time.monotonic() - started)
    Path(options.json).parent.mkdir(exist_ok=True)
    Path(options.json).write_text(json.dumps(document, indent=1))
    print(f"\nIt took {document['seconds']} s. Every round is in {options.json}.")


if __name__ == "__main__":
    main()
