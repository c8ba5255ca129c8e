"""Puts a run into the documentation: `python -m benches.publish target/bench.json docs`.

Writes benchmarks.svg and benchmarks-results.md, or, of a run of benches.levels (target/levels.json), benchmarks-levels.md;
how to read them is in docs/benchmarks.md.
"""

import json
import sys
from pathlib import Path

from benches import levels, report
from benches.plot import plot


def markdown(table):
    header, lines = table
    for line in (header, ["---", *["---:"] * (len(header) - 1)], *lines):
        yield f"| {' | '.join(line)} |"


def circumstances(document):
    yield f"* Command: `{document['command']}`, {document['seconds']} s, {document['date']}"
    yield f"* Machine: {document['machine']}"
    yield f"* Python: {document['python']}"


def levels_text(document):
    """The text of benchmarks-levels.md."""
    lines = [
        "# What each level of the record costs",
        "",
        "Written by `python -m benches.publish`. *off* is a build that cannot record, *pulse* the default; *deep* is told to an",
        "observer that makes nothing of it. Medians of interleaved rounds; what else there is to know: [benchmarks.md](benchmarks.md).",
        "",
        *circumstances(document),
        "",
        *markdown(levels.cost_table(document)),
    ]
    return "\n".join(lines) + "\n"


def results(document):
    """The text of benchmarks-results.md."""
    lines = [
        "# Results",
        "",
        "Written by `python -m benches.publish`. How to read it: [benchmarks.md](benchmarks.md); as a picture: [benchmarks.svg](benchmarks.svg).",
        "",
        *circumstances(document),
        f"* Loops: {', '.join(f'{name} {version}' for name, version in document['versions'].items())}",
    ]
    lines += [f"* Absent: {name} ({reason})" for name, reason in document["absent"].items()]
    lines += ["", "## Rows where ferrio is above another loop by more than noise", ""]
    lines += [
        f"* {row}: {', '.join(f'{ratio} of {name}' for name, ratio in above)}" for row, above in report.lost(document)
    ] or ["None."]
    for title in dict.fromkeys(result["kind"] for result in document["rows"]):
        rows = report.rows(document, title)
        lines += ["", f"## {title}: cost", "", *markdown(report.cost_table(rows))]
        header, rates = report.rate_table(rows)
        if rates:
            lines += ["", f"## {title}: rates and latencies", "", *markdown((header, rates))]
    failures = report.failures(document)
    if failures:
        lines += ["", "## Loops that failed", "", *(f"* {row}: {name}: {reason}" for row, name, reason in failures)]
    return "\n".join(lines) + "\n"


def main():
    source, folder = sys.argv[1:]
    document = json.loads(Path(source).read_text())
    if document.get("of") == "levels":
        Path(folder, "benchmarks-levels.md").write_text(levels_text(document))
        return
    Path(folder, "benchmarks.svg").write_text(plot(document))
    Path(folder, "benchmarks-results.md").write_text(results(document))


if __name__ == "__main__":
    main()
