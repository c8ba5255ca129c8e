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

FULL = {"rounds": 5, "seconds": 0.2, "minutes": 19}
QUICK = {"rounds": 3, "seconds": 0.2, "minutes": 0}

#: A row in which a loop's rounds differ by more than this part of their median is measured again, with fresh processes,
#: so many times in all, while the run's minutes last.
UNSTEADY = 0.1
SITTINGS = 3

KINDS = {"One process": one_process, "Server and client": network}


def parse():
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some of the rows, in fewer and shorter rounds")
    default = ",".join(name for name in loops.LOOPS if name not in loops.ON_REQUEST)
    parser.add_argument("--loops", default=default, help="comma-separated; default: %(default)s")
    parser.add_argument("--rows", default="", help="only the rows whose name matches this regular expression")
    parser.add_argument("--rounds", type=int, help="how many; default: 5, with --quick 3")
    parser.add_argument("--minutes", type=float, help="rows whose rounds differ are measured again until so many are over; "
                        "default: 19, with --quick 0")  # fmt: skip
    parser.add_argument("--json", default="target/bench.json", help="where the figures go; default: %(default)s")
    options = parser.parse_args()
    options.loops = options.loops.split(",")
    effort = QUICK if options.quick else FULL
    given = {"rounds": options.rounds, "minutes": options.minutes}
    options.effort = effort | {name: value for name, value in given.items() if value is not None}
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


def sit(title, row, present, effort):
    """Measures a row with fresh processes: the report of every round on every loop, and why a loop failed."""
    kind = KINDS[title]
    return paired.interleave(
        min(effort["rounds"], kind.most_rounds(row) or effort["rounds"]),
        taking_part(kind, row, present),
        lambda factory: kind.start(row, factory),
        lambda subject: kind.measure(row, subject, effort),
    )


def measure(title, row, present, effort):
    """A row of the document."""
    started = time.monotonic()
    reports, failures = sit(title, row, present, effort)
    seconds = time.monotonic() - started
    print(f"  {row}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return {
        "kind": title, "row": row, "unit": KINDS[title].unit(row), "loops": list(taking_part(KINDS[title], row, present)),
        "reports": reports, "failures": failures, "sittings": 1, "seconds": seconds,
    }  # fmt: skip


def measure_again(rows, present, effort, end):
    """Unsteady rows once more, until the clock says `end`: none a third time before all were measured twice."""

    def is_to_be(result):
        is_open = result["sittings"] < SITTINGS and not KINDS[result["kind"]].most_rounds(result["row"])
        return is_open and unsteadiness(result) > UNSTEADY and time.monotonic() + result["seconds"] < end

    while unsteady := list(filter(is_to_be, rows)):
        result = min(unsteady, key=lambda result: (result["sittings"], -unsteadiness(result)))
        reports, failures = sit(result["kind"], result["row"], present, effort)
        result["reports"] = paired.joined(result["reports"], reports)
        result["failures"] |= failures
        result["sittings"] += 1
        print(f"  {result['row']}, again", file=sys.stderr, flush=True)


def unsteadiness(result):
    """By how much of their median the rounds of the loop differ that differs most."""
    return max((paired.spread(costs) for costs in report.costs(result).values()), default=0)


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
    effort = options.effort
    started = time.monotonic()
    document = describe(present, absent, options, effort) | {"rows": []}
    for title, kind in KINDS.items():
        for row in chosen(kind, options):
            document["rows"].append(measure(title, row, present, effort))
    measure_again(document["rows"], present, effort, started + effort["minutes"] * 60)
    for title in KINDS:
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
