"""The runner must not be the one that passes: hangs, crashes, leaks, missed classes and outdated exceptions make a run fail."""

import pathlib
import subprocess
import sys
import sysconfig
import types

import pytest
import run

RUN = pathlib.Path(run.__file__)
TEST = "test_timeouts.TimeoutTests.test_timeout_basic"

#: Some distributors have CPython's own tests in a package of their own (Debian: libpython3.11-testsuite).
needs_suite = pytest.mark.skipif(
    not pathlib.Path(sysconfig.get_path("stdlib"), "test", "test_asyncio").exists(),
    reason="this interpreter comes without CPython's tests",
)

BROKEN_LOOPS = """
import asyncio, faulthandler, time

class Hanging(asyncio.SelectorEventLoop):
    def run_forever(self):
        time.sleep(60)

class Crashing(asyncio.SelectorEventLoop):
    def run_forever(self):
        faulthandler._sigsegv()

class Leaking(asyncio.SelectorEventLoop):
    def close(self):
        asyncio.SelectorEventLoop()
        super().close()
"""


def run_on(factory, directory, *options):
    """Runs one test on a loop of BROKEN_LOOPS."""
    (directory / "broken_loops.py").write_text(BROKEN_LOOPS)
    command = [sys.executable, RUN, "--factory", f"broken_loops:{factory}", "--only", TEST, "-v", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(directory)})


@needs_suite
def test_a_hang_is_a_failure_with_the_stack(tmp_path):
    done = run_on("Hanging", tmp_path, "--timeout", "1")
    assert done.returncode == 1
    assert f"HUNG {TEST}" in done.stdout
    assert "in run_forever" in done.stdout
    assert done.stdout.endswith("\n0 passed, 1 failed, 0 skipped\n")


@needs_suite
def test_a_crash_is_a_failure_with_the_stack(tmp_path):
    done = run_on("Crashing", tmp_path)
    assert done.returncode == 1
    assert f"CRASHED {TEST}" in done.stdout
    assert "Segmentation fault" in done.stdout
    assert done.stdout.endswith("\n0 passed, 1 failed, 0 skipped\n")


@needs_suite
def test_an_unclosed_loop_is_a_failure(tmp_path):
    done = run_on("Leaking", tmp_path)
    assert done.returncode == 1
    assert "ResourceWarning: unclosed event loop" in done.stdout


@needs_suite
def test_a_pattern_that_matches_nothing_is_an_error():
    done = subprocess.run(
        [sys.executable, RUN, "--factory", "asyncio", "--only", "no_such_test"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "no test matches" in done.stderr


@pytest.fixture
def judge(tmp_path):
    """The titles of the problems that a complete run on some foreign loop has, given exceptions.toml and the results."""

    def judge(toml, **results):
        path = tmp_path / "exceptions.toml"
        path.write_text(toml)
        exceptions = run.Exceptions(path, "foreign:new_event_loop")
        options = types.SimpleNamespace(only=["*"], factory="foreign:new_event_loop")
        results = {
            f"test_x.Tests.{name}": dict(outcome=outcome, detail="", loops=loops)
            for name, (outcome, loops) in results.items()
        }
        job = types.SimpleNamespace(results=results, not_run=set())
        report = run.Report([job], exceptions, options)
        return [title for title, _ in report.problems], report.summary

    return judge


EXCEPTED = '[[private]]\ntests = ["test_x.Tests.test_a"]\nreason = "r"\n'


def test_an_excepted_failure_is_no_problem(judge):
    assert judge(EXCEPTED, test_a=("failed", 1), test_b=("passed", 1)) == ([], "1 passed, 0 failed, 0 skipped")


def test_an_unlisted_failure_fails_the_run(judge):
    assert judge("", test_a=("failed", 1)) == (["FAILED test_x.Tests.test_a"], "0 passed, 1 failed, 0 skipped")


def test_an_excepted_test_that_passes_fails_the_run(judge):
    assert judge(EXCEPTED, test_a=("passed", 1)) == (["PASSED test_x.Tests.test_a"], "0 passed, 1 failed, 0 skipped")


def test_an_exception_without_a_test_fails_the_run(judge):
    assert judge(EXCEPTED, test_b=("passed", 1))[0] == ["UNKNOWN test_x.Tests.test_a"]


def test_an_exception_for_other_versions_says_nothing_here(judge):
    assert judge(EXCEPTED + 'until = "3.10"\n', test_a=("passed", 1))[0] == []
    assert judge(EXCEPTED + 'since = "3.99"\n', test_a=("failed", 1))[0] == ["FAILED test_x.Tests.test_a"]
    here = "{}.{}".format(*sys.version_info)
    assert judge(EXCEPTED + f'since = "{here}"\nuntil = "{here}"\n', test_a=("failed", 1))[0] == []


def test_a_class_that_never_made_a_loop_of_the_factory_fails_the_run(judge):
    assert judge("", test_a=("passed", 0), test_b=("passed", 0))[0] == ["NO LOOP test_x.Tests"]
    assert judge("", test_a=("passed", 0), test_b=("passed", 1))[0] == []


def test_a_class_listed_without_a_loop_must_make_none(judge):
    listed = '[[no_loop]]\ntests = ["test_x.Tests"]\nreason = "r"\n'
    assert judge(listed, test_a=("passed", 0))[0] == []
    assert judge(listed, test_a=("passed", 1))[0] == ["LOOPS test_x.Tests"]
