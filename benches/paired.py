"""Interleaved rounds, and what they say about one loop against another.

Machines drift: another tenant wakes up, a core gets hot. So loops are never measured one after the other but round by
round (A B C, C B A, ...), every ratio is taken within a round, and medians are reported.
"""

import contextlib
from statistics import median

from benches.processes import Failure


def interleave(rounds, loops, start, measure):
    """Measures every loop in every round: name -> its results, one per round, and name -> why it has none.

    `start(factory)` is a context manager whose value, one per loop for all rounds, `measure` is called with.
    """
    with contextlib.ExitStack() as stack:
        subjects, results, failures = {}, {}, {}

        @contextlib.contextmanager
        def noting_failure(name):
            try:
                yield
            except Failure as failure:
                failures[name] = str(failure)
                subjects.pop(name, None)
                results.pop(name, None)

        for name, factory in loops.items():
            with noting_failure(name):
                subjects[name] = stack.enter_context(start(factory))
        for number in range(rounds):
            for name in list(subjects) if number % 2 == 0 else list(reversed(subjects)):
                with noting_failure(name):
                    results.setdefault(name, []).append(measure(subjects[name]))
    return results, failures


def ratio(results, name, base):
    """The median of the paired ratios of `name` to `base`, where there are two of them."""
    if name == base or name not in results or base not in results:
        return ""
    return f"{median(a / b for a, b in zip(results[name], results[base], strict=True)):.2f}"


def table(header, rows):
    """Lines of text: the first column to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    for row in (header, ["-" * width for width in widths], *rows):
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([first.strip().ljust(widths[0]), *rest]).rstrip()
