"""Interleaved rounds, and what they say about one loop against another.

Machines drift: another tenant wakes up, a core gets hot. So loops are never measured one after the other but round by
round (A B C, C B A, ...), every ratio is taken within a round, and medians are reported.
"""

import contextlib
from dataclasses import dataclass
from statistics import median, quantiles

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


def joined(results, more):
    """The results of two sittings, each of a loop that has some in both. With fresh processes a loop is measured once more:
    where in memory a process happens to have its things can make it a tenth dearer for as long as it lives."""
    return {name: results[name] + more[name] for name in results if name in more}


@dataclass
class Ratio:
    """What the rounds say of one loop's cost relative to another's: the median, and the quartiles around it."""

    low: float
    median: float
    high: float

    def __str__(self):
        return f"{self.median:.2f} ±{(self.high - self.low) / 2:.2f}"

    @property
    def above(self):
        """Whether it is the dearer one by more than noise: by more than 1 %, and in three quarters of the rounds."""
        return self.median > 1.01 and self.low > 1


def paired_ratio(results, name, base):
    """The `Ratio` of `name` to `base`, or None where there are not two of them."""
    if name == base or name not in results or base not in results:
        return None
    ratios = [a / b for a, b in zip(results[name], results[base], strict=True) if b]
    if not ratios:
        return None
    low, middle, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return Ratio(low, middle, high)


def ratio(results, name, base):
    """The median of the paired ratios of `name` to `base` as text, empty where there are not two of them."""
    found = paired_ratio(results, name, base)
    return f"{found.median:.2f}" if found else ""


def table(header, rows):
    """Lines of text: the first column to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    for row in (header, ["-" * width for width in widths], *rows):
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([first.strip().ljust(widths[0]), *rest]).rstrip()


def spread(values):
    """Half the distance of the quartiles, relative to the median."""
    if len(values) < 2 or not median(values):
        return 0.0
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / middle
