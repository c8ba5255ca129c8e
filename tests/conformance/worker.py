"""Runs the tests of one module of CPython's test_asyncio in this process, and writes what happens to a file as it happens.

Started by run.py with one JSON argument (see `run.Job`). Each line of the file is one JSON object: `start` before a test, `end` after it.
A test that takes too long ends the process: faulthandler's watchdog needs no GIL, so it also ends a process stuck in native code, after
writing all stacks to stderr. The runner starts another process for the tests that are left.
"""

import faulthandler
import fnmatch
import gc
import importlib
import json
import sys
import time
import traceback
import unittest
import warnings

import pointing
from test import support

PACKAGE = "test.test_asyncio."


def test_id(test):
    return test.id().removeprefix(PACKAGE)


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def matches(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


class Reporter(unittest.TestResult):
    """Writes every event to the file, with the loops that were made between the start and the end of the test."""

    def __init__(self, events, counter, timeout):
        super().__init__()
        self.events = events
        self.counter = counter
        self.timeout = timeout
        self.outcome = None
        self.last = None
        self.unclosed = []
        self.show_warning, warnings.showwarning = warnings.showwarning, self.note_warning

    def note_warning(self, message, category, *where):
        if issubclass(category, ResourceWarning):
            self.unclosed.append(str(message))
        self.show_warning(message, category, *where)

    def write(self, **event):
        self.events.write(json.dumps(event) + "\n")
        self.events.flush()

    def begin(self, test):
        self.check_what_is_left()
        self.outcome = ("passed", "")
        self.loops = (self.counter.factory, self.counter.stock)
        self.write(event="start", id=test_id(test))
        faulthandler.dump_traceback_later(self.timeout, exit=True)
        self.started = time.perf_counter()

    def finish(self, test):
        faulthandler.cancel_dump_traceback_later()
        outcome, detail = self.outcome
        self.outcome = None
        self.last = dict(
            event="end",
            id=test_id(test),
            outcome=outcome,
            detail=detail,
            seconds=round(time.perf_counter() - self.started, 3),
            loops=self.counter.factory - self.loops[0],
            stock_loops=self.counter.stock - self.loops[1],
        )
        self.write(**self.last)

    def check_what_is_left(self):
        """Fails the last test after all if it left threads, children, or unclosed loops and transports. With the stock loop, none does.

        Called when the suite has let go of the test, and with it of all that it refers to.
        """
        gc.collect()
        left = [f"ResourceWarning: {warning}" for warning in self.unclosed]
        if support.environment_altered:
            left.append("threads or child processes are left: see the log")
        self.unclosed.clear()
        support.environment_altered = False
        if left and self.last and self.last["outcome"] == "passed":
            self.write(**self.last | dict(outcome="failed", detail="\n".join(left)))

    def settle(self, test, outcome, detail):
        if self.outcome is None:
            # No test is running: a fixture of the class or the module failed, or a class is skipped as a whole.
            self.write(event="end", id=test_id(test), outcome=outcome, detail=detail, seconds=0, loops=0, stock_loops=0)
        elif self.outcome[0] == "failed":
            self.outcome = ("failed", self.outcome[1] + "\n" + detail)
        else:
            self.outcome = (outcome, detail)

    def fail(self, test, error):
        self.settle(test, "failed", "".join(traceback.format_exception(*error)))

    def addError(self, test, error):
        self.fail(test, error)

    def addFailure(self, test, error):
        self.fail(test, error)

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.fail(test, error)

    def addSkip(self, test, reason):
        self.settle(test, "skipped", reason)

    def addExpectedFailure(self, test, error):
        pass

    def addUnexpectedSuccess(self, test):
        self.settle(test, "failed", "passes although the suite itself expects it to fail")


def run_test(test, reporter):
    # Not in startTest and stopTest: IsolatedAsyncioTestCase closes its loop after stopTest.
    reporter.begin(test)
    test.run(reporter)
    reporter.finish(test)


def main():
    job = json.loads(sys.argv[1])
    # What regrtest runs with when no `-u` is given: no network, nothing that needs much time or memory.
    support.use_resources = {}
    counter = pointing.point(job["factory"])
    if job["native"]:
        pointing.install_natives()
    with open(job["events"], "a") as events:
        reporter = Reporter(events, counter, job["timeout"])
        try:
            module = importlib.import_module(PACKAGE + job["module"])
        except unittest.SkipTest as skip:
            if not matches(job["module"], job["leave_out"]):
                reporter.write(
                    event="end",
                    id=job["module"],
                    outcome="skipped",
                    detail=str(skip),
                    seconds=0,
                    loops=0,
                    stock_loops=0,
                )
            reporter.write(event="complete")
            return
        if not pointing.is_stock(job["factory"]):
            pointing.point_helpers(module)
        suite = unittest.TestSuite()
        done = set(job["done"])
        for test in flatten(unittest.defaultTestLoader.loadTestsFromModule(module)):
            name = test_id(test)
            if name in done or not matches(name, job["only"]):
                continue
            if matches(name, job["leave_out"]):
                reporter.write(event="left out", id=name)
                continue
            suite.addTest(test)
        unittest.TestCase.__call__ = run_test  # what a suite calls
        suite.run(reporter)
        reporter.check_what_is_left()
        reporter.write(event="complete")


if __name__ == "__main__":
    main()
