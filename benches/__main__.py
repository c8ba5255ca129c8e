"""Runs the rows on every loop, prints a table and writes the figures of every round as JSON."""

import argparse
import contextlib
import json
import platform
import re
import sys
from statistics import median

from benches import loops, micro, network, paired

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


def micro_rows(names, present, effort):
    """Yields row, unit, and per loop the value of every round."""
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(contextlib.closing(micro.Worker(spec))) for name, spec in present.items()}
        for row in names:
            for worker in workers.values():
                worker.measure(row)  # to warm up
            unit = "CPU" if micro.ROWS[row]["clock"] is micro.CPU else "elapsed"
            results = paired.interleave(effort["micro_rounds"], workers, lambda worker: worker.measure(row))
            yield row, f"{micro.ROWS[row]['unit']} {unit}", results, {}


def network_rows(names, present, effort):
    """The same, with the client's reports as details."""
    for row in names:
        with contextlib.ExitStack() as stack:
            servers = {name: stack.enter_context(network.server(row, spec)) for name, spec in present.items()}
            measure = lambda server: network.measure(row, server, effort["seconds"])  # noqa: E731
            reports = paired.interleave(effort["network_rounds"], servers, measure)
        results = {name: [report["server_cpu_us_per_request"] for report in reports[name]] for name in present}
        yield row, "us server CPU", results, reports


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
    for title, kind, rows in ("One process", micro.ROWS, micro_rows), ("Server and client", network.ROWS, network_rows):
        names = [name for name in kind if re.search(options.rows, name)]
        if not names:
            continue
        lines = []
        for row, unit, results, reports in rows(names, present, effort):
            print(f"  {row} ...", file=sys.stderr, flush=True)
            medians = [f"{median(results[name]):,.{0 if unit.startswith('ns') else 2}f}" for name in present]
            ratios = [f"{paired.ratio(results, subject, base):.2f}" for base in bases]
            lines.append([row, unit, *medians, *ratios])
            document["rows"].append({"row": row, "unit": unit, "results": results, "reports": reports})
        header = [title, "per operation", *present, *(f"{subject}/{base}" for base in bases)]
        print("", *paired.table(header, lines), sep="\n", flush=True)
    print("\nMedians of interleaved rounds; ratios are medians of the rounds' own ratios, below 1 means less than the other.")
    with open(options.json, "w") as file:
        json.dump(document, file, indent=1)
    print(f"Every round is in {options.json}.")


if __name__ == "__main__":
    main()
