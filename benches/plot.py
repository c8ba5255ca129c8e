"""A run as a picture: `plot(document)` is an SVG with a bar for every loop in every row, relative to asyncio."""

from html import escape
from statistics import median

from benches import report
from benches.network import BARE

#: loop -> its colour, told apart by the colour-blind too.
COLOURS = {
    "asyncio": "#999999",
    "uvloop": "#e69f00",
    "rloop": "#56b4e9",
    "rsloop": "#cc79a7",
    "zuvloop": "#009e73",
    "aiofastnet": "#6a51a3",
    "ferrio": "#d7301f",
}

#: The width of the names and of the bars, and of what is one on the axis; the height of a bar and between rows.
NAMES, BARS, BAR, GAP = 330, 560, 7, 9
#: Longer bars are cut, and say how long they would be.
LONGEST = 2.0
TOP = 150


def text(x, y, words, size=11, anchor="start", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" {extra}>{escape(words)}</text>'


def bar(y, name, ratio):
    length = min(ratio, LONGEST) / LONGEST * BARS
    yield f'<rect x="{NAMES}" y="{y:.1f}" width="{length:.1f}" height="{BAR - 1}" fill="{COLOURS[name]}"/>'
    if ratio > LONGEST:
        yield text(NAMES + BARS + 4, y + BAR - 1, f"{ratio:.1f}", 8)


def rows(document):
    """(row, loop -> its cost relative to asyncio's, whether ferrio is above a peer there)"""
    lost = {row for row, _ in report.lost(document)}
    for result in document["rows"]:
        costs = report.costs(result)
        if "asyncio" not in costs:
            continue
        values = {
            name: median(a / b for a, b in zip(values, costs["asyncio"]))
            for name, values in costs.items()
            if name != BARE
        }
        yield result["row"], values, result["row"] in lost


def legend(names):
    x = NAMES
    for name in names:
        yield f'<rect x="{x}" y="{TOP - 36}" width="10" height="10" fill="{COLOURS[name]}"/>'
        yield text(x + 14, TOP - 27, name)
        x += 78


def axis(bottom):
    for tick in (0, 0.5, 1, 1.5, LONGEST):
        x = NAMES + tick / LONGEST * BARS
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{bottom}" stroke="#{"555" if tick == 1 else "ddd"}"/>'
        yield text(x, TOP - 12, f"{tick:g}", 10, "middle")


def caption(document):
    loops = ", ".join(f"{name} {version}" for name, version in document["versions"].items() if name != "asyncio")
    return [
        "Cost of an operation relative to asyncio's: shorter is better",
        f"{document['machine']}; Python {document['python']}; {document['date']}",
        loops,
        f"{document['command']}; medians of interleaved rounds; ● marks the rows where ferrio is above another loop",
    ]


def plot(document):
    """The text of the SVG."""
    everything = list(rows(document))
    names = [name for name in COLOURS if any(name in values for _, values, _ in everything)]
    y, marks = TOP, []
    for row, values, is_lost in everything:
        height = BAR * len(values)
        marks.append(text(NAMES - 8, y + height / 2 + 4, f"{'● ' if is_lost else ''}{row}", 11, "end"))
        for name in names:
            if name in values:
                marks += bar(y, name, values[name])
                y += BAR
        y += GAP
    title, *rest = caption(document)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{NAMES + BARS + 50}" height="{y + 10}" font-family="sans-serif">',
            f'<rect width="{NAMES + BARS + 50}" height="{y + 10}" fill="white"/>',
            text(16, 28, title, 16, extra='font-weight="bold"'),
            *(text(16, 48 + 16 * i, line, 10) for i, line in enumerate(rest)),
            *legend(names),
            *axis(y),
            *marks,
            "</svg>",
            "",
        ]
    )
