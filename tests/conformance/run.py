"""CPython's own asyncio tests on ferrio's loop.

    python tests/conformance/run.py                      all tests of this interpreter, about a minute
    python tests/conformance/run.py --only test_sock     those whose id contains the words (or matches the pattern)
    python tests/conformance/run.py --factory asyncio    the same tests on the stock loop, for comparison
    python tests/conformance/run.py --native             with ferrio's queues, locks, streams, gather, … installed as well
    python tests/conformance/run.py --rerun              what failed is run once more, alone, and named if it passes then

Every test whose failure is not excepted in exceptions.toml must pass, every excepted test must fail, and every class of tests that is not
named there as making no loop must have made one of the factory's. Tests are bounded in time: a hang is a failure. Details are left in
build/conformance/.
"""

import argparse
import collections
import concurrent.futures
import fnmatch
import json
import os
import pathlib
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib

import pointing

HERE = pathlib.Path(__file__).parent
PROJECT = HERE.parent.parent
# They decide how long the run takes, so they start first.
LONGEST = (
    "test_ssl",
    "test_events",
    "test_tasks",
    "test_subprocess",
    "test_sendfile",
    "test_unix_events",
    "test_streams",
)
BAD = ("failed", "hung", "crashed")


def version(text):
    return tuple(int(part) for part in text.split("."))


class Exceptions:
    """exceptions.toml, as far as it concerns this interpreter and factory."""

    def __init__(self, path, factory, native=False):
        tables = tomllib.loads(path.read_text())
        here = {
            name: [entry for entry in tables.get(name, []) if self.applies(entry)]
            for name in ("left_out", "no_loop", "private", "courtesy", "native", "environment")
        }
        self.left_out = [pattern for entry in here["left_out"] for pattern in entry["tests"]]
        self.no_loop = [pattern for entry in here["no_loop"] for pattern in entry["tests"]]
        failing = here["environment"]
        if not pointing.is_stock(factory):
            failing += here["private"]
        if native:
            failing += here["native"]
        if factory.startswith("opaque:"):
            failing += here["courtesy"]
        self.reasons = {pattern: entry["reason"] for entry in failing for pattern in entry["tests"]}

    @staticmethod
    def applies(entry):
        """Whether this interpreter is in the entry's bounds; `python = "3.12"` is shorthand for since and until 3.12."""
        since, until = entry.get("since", "3.0"), entry.get("until", "3.99")
        return version(since) <= sys.version_info[: len(version(since))] and sys.version_info[
            : len(version(until))
        ] <= version(until)

    def of(self, test):
        """The pattern that excepts the test from passing, or None."""
        return next((pattern for pattern in self.reasons if fnmatch.fnmatchcase(test, pattern)), None)


class Job:
    """The tests of one module, run in as many processes as hangs and crashes make necessary."""

    def __init__(self, module, options, exceptions, directory, only=None):
        self.module = module
        self.options = options
        self.only = only or options.only
        self.left_out = exceptions.left_out
        self.directory = directory
        self.results = {}
        self.not_run = set()

    def run(self):
        started = time.monotonic()
        attempt = 0
        while not self.run_once(attempt):
            attempt += 1
        self.seconds = time.monotonic() - started
        return self

    def run_once(self, attempt):
        """Runs what has no result yet in a new process. Returns whether the module is complete."""
        events = self.directory / f"{self.module}.{attempt}.jsonl"
        log = self.directory / f"{self.module}.{attempt}.log"
        events.unlink(missing_ok=True)
        argument = {
            "module": self.module,
            "factory": self.options.factory,
            "native": self.options.native,
            "only": self.only,
            "leave_out": self.left_out,
            "done": list(self.results),
            "timeout": self.options.timeout,
            "events": str(events),
        }
        with open(log, "wb") as output, tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
            process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-W", "default", HERE / "worker.py", json.dumps(argument)],
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            killed = self.wait(process, events)
            kill_group(process.pid)
        return self.collect(events, log, process.returncode, killed)

    def wait(self, process, events):
        """Waits for the process; kills it if its own watchdog did not. Returns whether it did so."""
        patience = self.options.timeout + 15
        while True:
            try:
                process.wait(1)
                return False
            except subprocess.TimeoutExpired:
                changed = events.stat().st_mtime if events.exists() else time.time()
                patience_left = changed + patience - time.time()
                if patience_left < 0:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    return True

    def collect(self, events, log, returncode, killed):
        running, complete, new = None, False, 0
        lines = events.read_text().splitlines() if events.exists() else []
        for event in map(json.loads, lines):
            match event["event"]:
                case "start":
                    running = event["id"]
                case "end":
                    running, new = None, new + 1
                    self.results[event.pop("id")] = event
                case "left out":
                    self.not_run.add(event["id"])
                case "complete":
                    complete = True
        if complete:
            return True
        output = log.read_text(errors="replace")
        hung = killed or "Timeout (" in output
        outcome = "hung" if hung else "crashed"
        detail = f"the process ended with {returncode}; the end of its output:\n{output[-8000:]}"
        if running is None:
            # It died between two tests: nothing to blame but the module, and no reason to try again.
            self.results[self.module] = dict(outcome=outcome, detail=detail, seconds=0, loops=0, stock_loops=0)
            return True
        self.results[running] = dict(outcome=outcome, detail=detail, seconds=0, loops=1, stock_loops=0)
        return False


def rerun(jobs, options, exceptions, directory):
    """Runs what failed once more, one after the other: many of these tests measure time, and mind a loaded machine.

    As with CPython's own `--rerun`, a test that passes now has passed. Returns their names.
    """
    passed = []
    for job in jobs:
        failed = [test for test, got in job.results.items() if got["outcome"] in BAD and not exceptions.of(test)]
        for test in failed:
            again = Job(job.module, options, exceptions, directory, only=[test]).run().results.get(test)
            if again is not None and again["outcome"] == "passed":
                job.results[test] = again
                passed.append(test)
    return passed


def kill_group(leader):
    """Ends what the tests of a process left behind."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Report:
    """What the results mean in the light of the exceptions."""

    def __init__(self, jobs, exceptions, options):
        self.results = {test: result for job in jobs for test, result in job.results.items()}
        self.left_out = sum(len(job.not_run) for job in jobs)
        self.problems = []  # (title, detail), each of which makes the run fail
        self.count = collections.Counter()
        used = set()
        for test, result in self.results.items():
            pattern = exceptions.of(test)
            used.add(pattern)
            outcome = result["outcome"]
            if outcome in BAD and pattern:
                self.count["excepted"] += 1
            elif outcome in BAD:
                self.fail(outcome.upper(), test, result["detail"])
            elif outcome == "passed" and pattern:
                self.fail(
                    "PASSED", test, f"exceptions.toml says that it fails ({pattern}): {exceptions.reasons[pattern]}"
                )
            else:
                self.count[outcome] += 1
        if options.only == ["*"]:
            self.check_completeness(exceptions, used, options)

    def fail(self, verdict, name, detail):
        self.count["failed"] += 1
        self.problems.append((f"{verdict} {name}", detail))

    def check_completeness(self, exceptions, used, options):
        for pattern in exceptions.reasons.keys() - used:
            self.fail("UNKNOWN", pattern, "exceptions.toml names a test that this interpreter does not have")
        if pointing.is_stock(options.factory):
            return
        loops = collections.Counter()
        for test, result in self.results.items():
            if result["outcome"] != "skipped" and test.count(".") == 2:
                loops[test.rpartition(".")[0]] += result["loops"]
        for name, made in loops.items():
            listed = any(fnmatch.fnmatchcase(name, pattern) for pattern in exceptions.no_loop)
            if not made and not listed:
                self.fail(
                    "NO LOOP", name, "none of its tests made a loop of the factory: the loop they ran on was CPython's"
                )
            elif made and listed:
                self.fail("LOOPS", name, f"exceptions.toml says that it makes no loop, but it made {made}")

    def write(self, directory):
        path = directory / "report.txt"
        with open(path, "w") as file:
            for title, detail in sorted(self.problems):
                file.write(f"{'=' * 100}\n{title}\n{'-' * 100}\n{detail.strip()}\n\n")
        (directory / "results.json").write_text(json.dumps(self.results, indent=1))
        return path

    @property
    def summary(self):
        return "{passed} passed, {failed} failed, {skipped} skipped".format_map(self.count)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--factory",
        default="ferrio:new_event_loop",
        metavar="MODULE:NAME",
        help="what makes the loops (default: %(default)s)",
    )
    parser.add_argument(
        "--native", action="store_true", help="with ferrio's queues, locks, streams, … in the places of asyncio's"
    )
    parser.add_argument(
        "--only", action="append", metavar="PATTERN", help="part of a test's id, or a pattern with *; may be repeated"
    )
    parser.add_argument(
        "--timeout", type=float, default=30, metavar="SECONDS", help="for one test (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at a time (default: %(default)s)")
    parser.add_argument("--rerun", action="store_true", help="run what failed once more, alone")
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of text")
    parser.add_argument("-v", "--verbose", action="store_true", help="one line for each test, and the tracebacks")
    options = parser.parse_args(arguments)
    options.words = options.only or ["*"]
    options.only = [word if "*" in word else f"*{word}*" for word in options.words]
    if ":" not in options.factory:
        options.factory += ":new_event_loop"
    return options


def modules(options):
    """The modules of the suite, the longest first; only those that `--only` names, if each of its words begins with a module's name."""
    directory = pathlib.Path(sysconfig.get_path("stdlib"), "test", "test_asyncio")
    names = sorted(path.stem for path in directory.glob("test_*.py"))
    if not names:
        sys.exit(f"this interpreter has no test suite: {directory} is missing")
    named = {word.split(".")[0] for word in options.words}
    if named <= set(names):
        names = named
    return sorted(names, key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))


def main(arguments=None):
    options = parse(arguments)
    exceptions = Exceptions(HERE / "exceptions.toml", options.factory, options.native)
    loop = options.factory.split(":")[0] + ("-native" if options.native else "")
    directory = PROJECT / "build" / "conformance" / f"{loop}-{sys.version_info.major}.{sys.version_info.minor}"
    directory.mkdir(parents=True, exist_ok=True)
    say = (lambda *words: None) if options.json else print

    started = time.monotonic()
    jobs = [Job(module, options, exceptions, directory) for module in modules(options)]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for future in concurrent.futures.as_completed([pool.submit(job.run) for job in jobs]):
            job = future.result()
            if options.verbose:
                for test, result in job.results.items():
                    say(f"{result['outcome']:8} {result['seconds']:7.2f} s  {test}")
            if job.results:
                count = collections.Counter(result["outcome"] for result in job.results.values())
                say(
                    f"{job.module:24} {job.seconds:6.1f} s  "
                    + ", ".join(f"{count[key]} {key}" for key in sorted(count))
                )

    if not any(job.results for job in jobs):
        sys.exit("no test matches: " + " ".join(options.only))
    for test in rerun(jobs, options, exceptions, directory) if options.rerun else ():
        say(f"passed when run once more, alone: {test}")
    report = Report(jobs, exceptions, options)
    path = report.write(directory)
    if options.json:
        print(
            json.dumps(
                {
                    "factory": options.factory,
                    "python": sys.version,
                    "count": report.count,
                    "left_out": report.left_out,
                    "problems": report.problems,
                    "results": report.results,
                }
            )
        )
    else:
        say()
        for title, detail in sorted(report.problems):
            say(title)
            if options.verbose:
                say(detail, "\n")
        if report.problems:
            say(f"\ntracebacks: {path.relative_to(PROJECT)}")
        say(
            f"{report.count['excepted']} excepted, {report.left_out} left out (the reasons are in exceptions.toml), {time.monotonic() - started:.0f} s"
        )
        say(report.summary)
    return 1 if report.problems else 0


if __name__ == "__main__":
    # A shell that starts this in the background has its children ignore Ctrl-C, and the tests would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
