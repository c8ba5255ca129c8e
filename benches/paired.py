"""Interleaved rounds, and what they say about one loop against another.

Machines drift: another tenant wakes up, a core gets hot. So loops are never measured one after the other but round by
round (A B C, C B A, ...), every ratio is taken within a round, and medians are reported.
"""

from statistics import median


def interleave(rounds, loops, measure):
    """Calls `measure(factory)` for every loop in every round: name -> list of results, one per round."""
    results = {name: [] for name in loops}
    for number in range(rounds):
        order = list(loops.items())
        for name, factory in order if number % 2 == 0 else reversed(order):
            results[name].append(measure(factory))
    return results


def ratio(results, name, base):
    """The median of the paired ratios of `name` to `base`."""
    return median(a / b for a, b in zip(results[name], results[base], strict=True))


def table(header, rows):
    """Lines of text: the first column to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    for row in (header, ["-" * width for width in widths], *rows):
        first, *rest = (cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths)))
        yield "  ".join([first, *rest]).rstrip()
