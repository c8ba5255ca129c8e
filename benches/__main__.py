"""Runs the rows on every loop, prints a table and writes the figures of every round as JSON."""

import argparse
import json
import platform
import re
import sys
from statistics import median

from benches import loops, network, one_process, paired

FULL = {"micro_rounds": 9, "network_rounds": 7, "seconds": 1.0}
QUICK = {"micro_rounds": 5, "network_rounds": 3, "seconds": 0.4}


def parse():
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--loops", default=",".join(loops.LOOPS), help="comma-separated; default: %(default)s")
    parser.add_argument("--rows", default="", help="only the rows whose name matches this regular expression")
    parser.add_argument("--json", default="target/bench.json", help="where the figures go; default: %(default)s")
    options = parser.parse_args()
    options.loops = options.loops.split(",")
    unknown = [name for name in options.loops if name not in loops.LOOPS]
    if unknown:
        parser.error(f"unknown loop {unknown[0]!r}; there are {', '.join(loops.LOOPS)}")
    return options


def measure(kind, row, loops, rounds, effort):
    """A row of the document: the report of every round on every loop, or why a loop failed."""
    print(f"  {row} ...", file=sys.stderr, flush=True)

    def start(factory):
        return kind.start(row, factory)

    def measure_round(subject):
        return kind.measure(row, subject, effort)

    reports, failures = paired.interleave(rounds, loops, start, measure_round)
    return {"row": row, "unit": kind.unit(row), "reports": reports, "failures": failures}


def line(result, loops):
    """The same as a line of the table, with the ratios of the last loop to the others."""
    costs = {name: [report["cost"] for report in reports] for name, reports in result["reports"].items()}
    digits = 0 if result["unit"].startswith("ns") else 2
    medians = [f"{median(costs[name]):,.{digits}f}" if name in costs else "fails" for name in loops]
    *bases, subject = loops
    return [result["row"], result["unit"], *medians, *(paired.ratio(costs, subject, base) for base in bases)]


def main():
    options = parse()
    effort = QUICK if options.quick else FULL
    present, absent = loops.split(options.loops)
    for name, reason in absent.items():
        print(f"{name} is absent: {reason}")
    if not present:
        sys.exit("no loop to measure")
    *bases, subject = present

    document = {"python": sys.version, "machine": platform.platform(), "absent": absent, "effort": effort, "rows": []}
    for title, kind, rounds in (
        ("One process", one_process, "micro_rounds"),
        ("Server and client", network, "network_rounds"),
    ):
        names = [name for name in kind.ROWS if re.search(options.rows, name)]
        results = [measure(kind, name, present, effort[rounds], effort) for name in names]
        document["rows"] += results
        if results:
            header = [title, "per operation", *present, *(f"{subject}/{base}" for base in bases)]
            print("", *paired.table(header, [line(result, present) for result in results]), sep="\n", flush=True)
        for result in results:
            for name, reason in result["failures"].items():
                print(f"{result['row']}: {name} fails: {reason}")
    print(
        "\nMedians of interleaved rounds; ratios are medians of the rounds' own ratios, below 1 means less than the other."
    )
    with open(options.json, "w") as file:
        json.dump(document, file, indent=1)
    print(f"Every round is in {options.json}.")


if __name__ == "__main__":
    main()
