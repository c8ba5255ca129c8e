"""The rows inside one process: how they are measured. What they are is in micro.py, primitives.py, streams.py and clients.py.

A row is a function of the loop and a count; `@row` says how many operations it does and which clock counts. A worker
process per row and loop (`python -m benches.one_process ROW FACTORY`) lives through all rounds, so that these can be
interleaved without paying for start-up.
"""

import asyncio
import contextlib
import faulthandler
import json
import subprocess
import sys

from benches import clients, micro, primitives, processes, streams
from benches.loops import factory
from benches.row import CPU, FAMILY, OWN, ROWS, WALL

__all__ = ["ROWS", "clients", "is_quick", "measure", "micro", "most_rounds", "primitives", "start", "streams", "unit"]


class Worker:
    """A process with one loop that measures a row as often as it is asked."""

    def __init__(self, name, spec):
        command = [sys.executable, "-m", "benches.one_process", name, spec]
        self._process = subprocess.Popen(
            command, cwd=processes.ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            preexec_fn=processes.settle(processes.SERVER_CPU),
        )  # fmt: skip

    def measure(self):
        with contextlib.suppress(BrokenPipeError):
            print(file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise processes.Failure(f"the process ended with status {self._process.wait()}")
        return json.loads(answer)

    def close(self):
        # Nothing more to measure: it ends by itself, unless it hangs.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def start(name, spec):
    """What is to be measured, as a context manager: a warm worker."""
    worker = Worker(name, spec)
    with contextlib.suppress(processes.Failure):  # which the first round will report
        worker.measure()
    return contextlib.closing(worker)


def measure(name, worker, effort):
    """One round: the cost of an operation."""
    return {"cost": worker.measure()}


def is_quick(name):
    return ROWS[name]["quick"]


def most_rounds(name):
    return ROWS[name]["rounds"]


def unit(name):
    clock = {CPU: "CPU", FAMILY: "CPU, children's too", WALL: "elapsed", OWN: ""}[ROWS[name]["clock"]]
    return f"{ROWS[name]['unit']} {clock}".strip()


def cost_of(entry, subject):
    """What one operation of the row costs, in the row's unit."""
    clock, count = entry["clock"], entry["count"]
    if clock is OWN:
        return entry["function"](subject, count)
    started = clock()
    entry["function"](subject, count)
    return (clock() - started) / count * {"ns": 1e9, "us": 1e6}[entry["unit"]]


def main():
    name, spec = sys.argv[1:]
    entry = ROWS[name]
    make_loop = factory(spec)
    if entry["of"] == "loop":
        subject = loop = make_loop()
        asyncio.set_event_loop(loop)
    else:
        subject, loop = make_loop, None
    for _ in sys.stdin:
        # A loop that hangs fails.
        faulthandler.dump_traceback_later(20, exit=True)
        cost = cost_of(entry, subject)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(cost), flush=True)
    if loop:
        loop.close()


if __name__ == "__main__":
    main()
