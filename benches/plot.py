"""A run as a picture: `plot(document)` is an SVG with a line for every row and a dot on it for every loop."""

from html import escape
from math import log
from statistics import median

from benches import report
from benches.network import BARE
from benches.report import SUBJECT

#: loop -> its colour, told apart by the colour-blind too.
COLOURS = {
    "asyncio": "#777777",
    "uvloop": "#e69f00",
    "rloop": "#56b4e9",
    "rsloop": "#cc79a7",
    "zuvloop": "#009e73",
    "aiofastnet": "#6a51a3",
    SUBJECT: "#d7301f",
}

#: Pixels: the names' column, the axis, a line, the margin at the right, and where the first line is.
NAMES, AXIS, LINE, MARGIN, TOP = 330, 600, 17, 30, 128

#: The axis, as multiples of asyncio's cost; it is logarithmic, so that half and double are equally far from it.
LEAST, MOST = 0.009, 12
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


def text(x, y, words, size=11, anchor="start", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" {extra}>{escape(words)}</text>'


def place(ratio):
    """Where on the axis."""
    ratio = min(max(ratio, LEAST), MOST)
    return NAMES + log(ratio / LEAST) / log(MOST / LEAST) * AXIS


def dot(x, y, name):
    radius = 5.5 if name == SUBJECT else 4
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{COLOURS[name]}" stroke="white" stroke-width="0.8"/>'


def ratios(result):
    """loop -> its cost relative to asyncio's; nothing where asyncio has no part in the row."""
    costs = report.costs(result)
    base = costs.get("asyncio", [])
    return {
        name: median(a / b for a, b in zip(values, base, strict=True))
        for name, values in costs.items()
        if base and name in COLOURS and name != BARE
    }


def line(result, y, is_lost):
    values = ratios(result)
    yield text(NAMES - 12, y + 4, f"{'● ' if is_lost else ''}{result['row']}", 11, "end")
    if values:
        left, right = place(min(values.values())), place(max(values.values()))
        yield f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{y}" y2="{y}" stroke="#ccc"/>'
    # ferrio's last, on top of the others.
    for name in COLOURS:
        if name in values:
            yield dot(place(values[name]), y, name)


def legend(names, y):
    x = NAMES
    for name in names:
        yield dot(x + 5, y - 4, name)
        yield text(x + 14, y, name)
        x += 84


def axis(top, bottom):
    for tick in TICKS:
        x, colour = place(tick), "#555" if tick == 1 else "#e4e4e4"
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" stroke="{colour}"/>'
        yield text(x, top - 5, f"{tick:g}", 10, "middle")
        yield text(x, bottom + 12, f"{tick:g}", 10, "middle")


def caption(document):
    versions = (f"{name} {version}" for name, version in document["versions"].items() if name != "asyncio")
    return [
        "What an operation costs, relative to asyncio: further left is better",
        f"{document['machine']}; Python {document['python']}; {document['date']}",
        ", ".join(versions),
        f"{document['command']}; medians of interleaved rounds; ● marks rows where ferrio is above another loop",
    ]


def plot(document):
    """The text of the SVG."""
    lost = {row for row, _ in report.lost(document)}
    used = {name for result in document["rows"] for name in ratios(result)}
    y, marks = TOP, []
    for kind in dict.fromkeys(result["kind"] for result in document["rows"]):
        marks.append(text(16, y + 4, kind, 12, extra='font-weight="bold"'))
        for result in report.rows(document, kind):
            marks += line(result, y, result["row"] in lost)
            y += LINE
        y += LINE
    bottom = y - LINE
    width, height = NAMES + AXIS + MARGIN, bottom + 24
    title, *rest = caption(document)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            text(16, 28, title, 16, extra='font-weight="bold"'),
            *(text(16, 46 + 15 * i, line, 10) for i, line in enumerate(rest)),
            *legend([name for name in COLOURS if name in used], TOP - 30),
            *axis(TOP - 10, bottom),
            *marks,
            "</svg>",
            "",
        ]
    )
