"""The libraries' own test suites, on asyncio's loop and on ferrio's: what fails only on ferrio's is ferrio's fault.

    make suites                              all of ci/suites/suites.toml: two hours, from a package index
    make suites OPTIONS="anyio janus"        these
    make suites OPTIONS="anyio --only sock"  those of its tests whose ids contain a word

Each library's source distribution, of the version in suites.toml, is unpacked in build/suites beside a virtual environment with
what its tests need, and pytest runs it three times, in one process each: on the stock loop, on ferrio's loop, and with ferrio's
queues, locks, streams, … installed as well. A test that fails on ferrio but not on the stock loop is run once more; it must be
among the `differences` in suites.toml, with its reason, or the run fails. Logs are left in build/suites.
"""

import argparse
import collections
import fnmatch
import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
HERE = PROJECT / "ci" / "suites"
BUILD = PROJECT / "build" / "suites"
LOOPS = ("stock", "ferrio", "native")
#: For one test, and for one run of a suite, in seconds.
TEST_LIMIT, LIMIT = 60, 1800
#: Root, with root's files, as somebody else.
AS_USER = ["unshare", "--map-user=1000", "--map-group=1000"]


class Suite:
    def __init__(
        self, name, *, version, tests, needs=(), without=(), options=(), environment=(), as_user=False, own_loop=False,
        differences=(),
    ):  # fmt: skip
        self.name, self.version, self.tests, self.needs = name, version, tests, needs
        self.environment, self.own_loop, self.differences = dict(environment), own_loop, differences
        self.prefix = AS_USER if as_user and os.geteuid() == 0 else []
        self.options = [*options, *(word for plugin in without for word in ("-p", f"no:{plugin}"))]
        self.directory = BUILD / f"{name}-{version}"
        self.python = self.directory / "venv/bin/python"
        self.source = self.directory / "source"

    def prepare(self):
        """The source and the environment, once."""
        if (self.directory / "complete").exists():
            return
        pip = [self.python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        check(sys.executable, "-m", "venv", "--clear", self.directory / "venv")
        pinned = f"{self.name}=={self.version}"
        check(*pip, "install", "pytest", "pytest-timeout", pinned, *self.needs)
        check(*pip, "download", "--no-deps", "--no-binary", self.name, "--dest", self.directory, pinned)
        (archive,) = self.directory.glob("*.tar.gz")
        with tarfile.open(archive) as archive:
            archive.extractall(self.directory, filter="data")
        (unpacked,) = (path.parent for path in self.directory.glob("*/PKG-INFO"))
        unpacked.rename(self.source)
        (self.directory / "complete").touch()

    def run(self, loop, tests=None, words=()):
        """Outcomes by the tests' ids, and how many loops were made: (stock's, ferrio's)."""
        results, loops = self.directory / f"{loop}.results", self.directory / f"{loop}.loops"
        for file in results, loops:
            file.unlink(missing_ok=True)
        environment = {
            "SUITES_LOOP": loop, "SUITES_NAMES": "asyncio" if self.own_loop else "ferrio",
            "SUITES_RESULTS": str(results), "SUITES_LOOPS": str(loops),
            "PYTHONPATH": os.pathsep.join(map(str, (HERE, PROJECT / "python"))),
        }  # fmt: skip
        command = [
            *self.prefix, self.python, "-P", "-X", "faulthandler", "-m", "pytest", "-q", "-o", "addopts=",
            "--import-mode=append", "-p", "recording", "-p", "no:cacheprovider", "--timeout", TEST_LIMIT, *self.options,
            *(tests or self.tests),
        ]  # fmt: skip
        if words:
            command += ["-k", " or ".join(words)]
        with open(self.directory / f"{loop}.log", "w") as log:
            try:
                subprocess.run(
                    list(map(str, command)), cwd=self.source, env=os.environ | self.environment | environment,
                    timeout=LIMIT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                print(f"   stopped after {LIMIT} s: {log.name}")
        lines = [line.split(" ", 1) for line in lines_of(results)]
        made = [tuple(map(int, line.split())) for line in lines_of(loops)]
        return {test: outcome for outcome, test in lines}, tuple(map(sum, zip(*made))) or (0, 0)

    def reason(self, test):
        patterns = ((pattern, each["reason"]) for each in self.differences for pattern in each["tests"])
        return next((reason for pattern, reason in patterns if fnmatch.fnmatchcase(test, escaped(pattern))), None)


def escaped(pattern):
    """The brackets of parameters stand for themselves."""
    return pattern.replace("[", "[[]")


def lines_of(path):
    return path.read_text().splitlines() if path.exists() else []


def check(*command):
    subprocess.run(list(map(str, command)), check=True)


def is_bad(outcome):
    return outcome in ("failed", "started")  # One that only started has ended the process.


def compare(suite, loops, words):
    """Runs the suite and prints what differs. Returns whether all of that is known."""
    suite.prepare()
    print(f"{suite.name} {suite.version}", flush=True)
    fine, stock = True, {}
    for loop in loops:
        results, (theirs, ours) = suite.run(loop, words=words)
        count = collections.Counter("failed" if is_bad(outcome) else outcome for outcome in results.values())
        counts = ", ".join(f"{count[outcome]} {outcome}" for outcome in sorted(count))
        print(f"   {loop:7} {counts or 'nothing ran'}; loops: {theirs} stock, {ours} ferrio", flush=True)
        if loop == "stock":
            stock = results
            continue
        # A library's own loop counts as one of asyncio's. None at all: what was to lead to ferrio has not even begun.
        fine = fine and bool(results) and (theirs + ours if suite.own_loop else ours) > 0
        worse = [test for test, outcome in results.items() if is_bad(outcome) and not is_bad(stock.get(test, "passed"))]
        again = suite.run(loop, worse)[0] if worse else {}
        for test in worse:
            if not is_bad(again.get(test, "failed")):
                print(f"           passed when run once more: {test}")
                continue
            reason = suite.reason(test)
            fine = fine and reason is not None
            print(f"           {'known' if reason else 'FAILED'}: {test}" + (f" ({reason})" if reason else ""))
    return fine


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = tomllib.loads((HERE / "suites.toml").read_text())
    parser.add_argument("names", nargs="*", choices=[*known, []], metavar="NAME", help=", ".join(known))
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="tests whose ids contain a word")
    parser.add_argument("--loop", action="append", choices=LOOPS, help="on this loop only; may be repeated")
    options = parser.parse_args()
    loops = [loop for loop in LOOPS if not options.loop or loop in options.loop]
    suites = [Suite(name, **known[name]) for name in options.names or known]
    differing = [suite.name for suite in suites if not compare(suite, loops, options.only)]
    if differing:
        sys.exit(f"\ndiffering: {', '.join(differing)}; the logs are in {BUILD.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()
