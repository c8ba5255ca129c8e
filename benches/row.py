"""`@row`: what makes a function a row of the table."""

import resource
import time


def _with_children():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


ROWS = {}
CPU, WALL = time.process_time, time.perf_counter
#: The process's own CPU time and that of the children that have ended.
FAMILY = _with_children
#: The function itself says what an operation costs.
OWN = None


def row(name, count, clock=CPU, unit="ns", *, quick=False, of="loop", rounds=None):
    """The function does an operation `count` times on the loop it is given; `clock` says what it cost.

    With `of="factory"` it is given what makes loops. `quick`: whether `make bench-quick` has the row. `rounds`: no more
    than these, for what takes long and varies little.
    """

    def register(function):
        ROWS[name] = {
            "function": function, "count": count, "clock": clock, "unit": unit, "quick": quick, "of": of,
            "rounds": rounds,
        }  # fmt: skip
        return function

    return register
