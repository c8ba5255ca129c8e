"""What a document (the JSON of a run) says, as tables. A table is a header and rows of texts."""

from statistics import median

from benches.network import BARE
from benches.paired import paired_ratio, spread

SUBJECT = "ferrio"


def costs(result):
    """loop -> its cost in every round."""
    return {name: [report["cost"] for report in reports] for name, reports in result["reports"].items()}


def rows(document, kind):
    return [result for result in document["rows"] if result["kind"] == kind]


def loops(results):
    """The loops that have a part in these rows, without the bare server."""
    return [name for name in results[0]["loops"] if name != BARE]


def peers(results):
    return [name for name in loops(results) if name != SUBJECT]


def best_peer(result):
    """The name of the peer with the least cost."""
    medians = {name: median(values) for name, values in costs(result).items() if name not in (SUBJECT, BARE)}
    return min(medians, key=medians.get, default=None)


def cost_table(results):
    """The cost of every loop, and ferrio's relative to others': paired medians with half the distance of the quartiles."""
    bases = [name for name in ("asyncio", "uvloop") if name in loops(results)]
    limits = any(BARE in result["reports"] for result in results)
    header = ["row", "per operation", *loops(results), "spread", *(f"/{base}" for base in bases), "/best peer", ""]
    header += ["bare", "of the limit"] if limits else []
    lines = []
    for result in results:
        values = costs(result)
        digits = 0 if result["unit"].startswith(("ns", "bytes")) else 2

        def show(name):
            return f"{median(values[name]):,.{digits}f}" if name in values else "fails"

        line = [result["row"], result["unit"], *map(show, loops(results))]
        line.append(f"{spread(values[SUBJECT]):.0%}" if SUBJECT in values else "")
        line += [f"{(found.median if (found := paired_ratio(values, SUBJECT, base)) else 0):.2f}" for base in bases]
        best = best_peer(result)
        line += [str(paired_ratio(values, SUBJECT, best) or ""), best or ""]
        if limits:
            part = paired_ratio(values, BARE, SUBJECT)
            line += [show(BARE), f"{part.median:.0%}"] if part else ["", ""]
        lines.append(line)
    return header, lines


def rate_table(results):
    """Requests per second, and the median and the 99th percentile of the time to an answer, of every loop."""
    names = [*loops(results), *([BARE] if any(BARE in result["reports"] for result in results) else [])]
    lines = []
    for result in results:
        line = [result["row"]]
        for name in names:
            reports = result["reports"].get(name)
            if reports and "p50_us" in reports[0]:
                rate, p50, p99 = (
                    median(report[key] for report in reports) for key in ("requests_per_second", "p50_us", "p99_us")
                )
                line.append(f"{rate:,.0f} {p50:,.0f}/{p99:,.0f}")
            else:
                line.append("")
        if any(line[1:]):
            lines.append(line)
    return ["requests/s p50/p99 us", *names], lines


def lost(document):
    """Rows where ferrio is above a peer by more than noise: (row, [(peer, ratio), ...]), the widest gap first."""
    found = []
    for result in document["rows"]:
        values = costs(result)
        above = [(name, paired_ratio(values, SUBJECT, name)) for name in values if name not in (SUBJECT, BARE)]
        above = [(name, ratio) for name, ratio in above if ratio and ratio.above]
        if above:
            found.append((result["row"], sorted(above, key=lambda pair: -pair[1].median)))
    return sorted(found, key=lambda pair: -pair[1][0][1].median)


def failures(document):
    """(row, loop, why)"""
    return [(result["row"], name, reason) for result in document["rows"] for name, reason in result["failures"].items()]
