"""What a loop's record costs: rows at each level, beside a build that cannot record (`make bench-levels`).

FERRIO_WITHOUT_RECORD is the folder of that build's package. ci/instructions.sh --levels counts the same in instructions,
and is what CI enforces.
"""

import argparse
import datetime
import functools
import json
import os
import platform
import re
import shlex
import sys
import time
from pathlib import Path
from statistics import median

from benches import network, one_process
from benches.__main__ import FULL, processor
from benches.paired import interleave, joined, paired_ratio, table

LEVELS = {
    "off": "benches.levels:without_record",
    "pulse": "ferrio:new_event_loop",
    "flight": "benches.levels:in_flight",
    "deep": "benches.levels:in_deep",
}

#: Fresh processes for so many parts of the rounds.
SITTINGS = 3

#: Rows in which a loop has much to record, and such as a service is made of.
ROWS = (
    "call_soon, one at a time|sleep.0.$|create_task|gather|Queue|call_later|readline"
    "|TCP (protocol|streams), 1 KiB x 10$|uvicorn, hello|aiohttp server"
)


def without_record():
    # Nothing has imported ferrio yet.
    sys.path.insert(0, os.environ["FERRIO_WITHOUT_RECORD"])
    import ferrio
    from ferrio import observe

    if observe.level() != "off":
        sys.exit("FERRIO_WITHOUT_RECORD is a build that can record")
    return ferrio.new_event_loop()


def in_flight():
    import ferrio
    from ferrio import observe

    observe.level("flight")
    return ferrio.new_event_loop()


class _Deaf:
    """Is told of everything, and makes nothing of it: what is measured is the telling."""

    def __getattr__(self, name):
        return _ignore


def _ignore(*_event):
    pass


def in_deep():
    import ferrio

    loop = ferrio.new_event_loop()
    loop._observe(_Deaf())
    return loop


def measure(kind, row, rounds):
    """Name, unit, and the costs of every round at each level."""
    sittings = [
        interleave(
            max(1, rounds // SITTINGS),
            LEVELS,
            lambda factory: kind.start(row, factory),
            lambda subject: kind.measure(row, subject, FULL)["cost"],
        )
        for _ in range(SITTINGS)
    ]
    results = functools.reduce(joined, (results for results, _ in sittings))
    failures = {level: reason for _, failed in sittings for level, reason in failed.items()}
    for level, reason in failures.items():
        print(f"{row} at {level} fails: {reason}", file=sys.stderr)
    print(".", end="", file=sys.stderr, flush=True)
    return {"row": row, "unit": kind.unit(row), "costs": results}


def cost_table(document):
    """A header and lines of text."""
    lines = []
    for result in document["rows"]:
        costs = result["costs"]
        medians = [f"{median(costs[level]):,.1f}" if level in costs else "" for level in LEVELS]
        ratios = [str(paired_ratio(costs, level, "off") or "") for level in list(LEVELS)[1:]]
        lines.append([result["row"], result["unit"], *medians, *ratios])
    return ["row", "per operation", *LEVELS, *(f"{level}/off" for level in list(LEVELS)[1:])], lines


def main():
    parser = argparse.ArgumentParser(prog="python -m benches.levels", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=ROWS, help="only the rows whose name matches this regular expression")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", default="target/levels.json", help="where the figures go; default: %(default)s")
    options = parser.parse_args()
    started = time.monotonic()
    rows = [
        measure(kind, row, options.rounds)
        for kind in (one_process, network)
        for row in kind.ROWS
        if re.search(options.rows, row) and (kind is network or one_process.ROWS[row]["of"] == "loop")
    ]
    document = {
        "of": "levels",
        "command": shlex.join(["python", "-m", "benches.levels", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {platform.system()} {platform.release()}",
        "python": f"{platform.python_version()} ({platform.python_compiler()})",
        "seconds": round(time.monotonic() - started),
        "rows": rows,
    }
    print("", *table(*cost_table(document)), sep="\n")
    Path(options.json).parent.mkdir(exist_ok=True)
    Path(options.json).write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
