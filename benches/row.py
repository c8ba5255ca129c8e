"""`@row`: what makes a function a row of the table."""

import time

ROWS = {}
CPU, WALL = time.process_time, time.perf_counter
#: The function itself says what an operation costs.
OWN = None


def row(name, count, clock=CPU, unit="ns"):
    """The function does an operation `count` times on the loop it is given; `clock` says what it cost."""

    def register(function):
        ROWS[name] = {"function": function, "count": count, "clock": clock, "unit": unit}
        return function

    return register
