"""What a loop's record costs: rows in one process at each level, beside a build that cannot record (`make bench-levels`).

FERRIO_WITHOUT_RECORD is the folder of that build's package. ci/instructions.sh --levels counts the same in instructions,
and is what CI enforces.
"""

import argparse
import os
import re
import sys
from statistics import median

from benches import one_process
from benches.paired import interleave, paired_ratio, table

LEVELS = {
    "off": "benches.levels:without_record",
    "pulse": "ferrio:new_event_loop",
    "flight": "benches.levels:in_flight",
    "deep": "benches.levels:in_deep",
}

#: Rows in which a loop has much to record.
ROWS = "call_soon, one at a time|sleep.0.|create_task|gather|Queue|call_later|readline|echo|create_future"


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


def main():
    parser = argparse.ArgumentParser(prog="python -m benches.levels", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=ROWS, help="only the rows whose name matches this regular expression")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    lines = []
    for name in [
        name for name, row in one_process.ROWS.items() if re.search(options.rows, name) and row["of"] == "loop"
    ]:
        results, failures = interleave(
            options.rounds,
            LEVELS,
            lambda factory, name=name: one_process.start(name, factory),
            lambda worker, name=name: one_process.measure(name, worker, {})["cost"],
        )
        for level, reason in failures.items():
            print(f"{name} at {level} fails: {reason}", file=sys.stderr)
        costs = [f"{median(results[level]):.1f}" if level in results else "" for level in LEVELS]
        ratios = [str(paired_ratio(results, level, "off") or "") for level in list(LEVELS)[1:]]
        lines.append([f"{name}, {one_process.unit(name)}", *costs, *ratios])
        print(".", end="", file=sys.stderr, flush=True)
    print("", *table(["", *LEVELS, *(f"{level}/off" for level in list(LEVELS)[1:])], lines), sep="\n")


if __name__ == "__main__":
    main()
