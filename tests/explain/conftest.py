"""Programs that are explained, all at once and each in a process of its own, before the first test looks at one."""

import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: Programs that need what came with this Python.
SINCE = {"eager": (3, 12)}
PROGRAMS = sorted(
    path.stem for path in (HERE / "programs").glob("*.py") if sys.version_info >= SINCE.get(path.stem, (3, 11))
)


def pytest_addoption(parser):
    parser.addoption(
        "--regenerate", action="store_true", help="write tests/explain/stories anew instead of comparing with them"
    )


def explain(*words, cwd=HERE / "programs", check=True, stdin="", timeout=60, **environment):
    command = [sys.executable, "-m", "ferrio", "explain", *map(str, words)]
    environment = {**os.environ, "COLUMNS": "300", "PYTHONIOENCODING": "utf-8", **environment}
    environment.pop("FORCE_COLOR", None)
    ran = subprocess.run(
        command, cwd=cwd, env=environment, input=stdin, capture_output=True, encoding="utf-8", timeout=timeout
    )
    if check:
        assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran


def events_of(*words, **options):
    return [json.loads(line) for line in explain("--json", *words, **options).stdout.splitlines()]


def _all(function, *words):
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(PROGRAMS, pool.map(lambda name: function(*words, f"{name}.py"), PROGRAMS)))


@pytest.fixture(scope="session")
def stories():
    return {name: ran.stdout for name, ran in _all(explain, "--fast").items()}


@pytest.fixture(scope="session")
def stories_of_asyncio():
    return {name: ran.stdout for name, ran in _all(explain, "--fast", "--loop-only").items()}


@pytest.fixture(scope="session")
def virtual():
    return _all(events_of, "--fast")


@pytest.fixture(scope="session")
def real():
    return _all(events_of)


@pytest.fixture
def program(tmp_path):
    def write(text, name="program.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


SIMPLE = """
    import asyncio, sys

    async def main():
        print("args", sys.argv[1:])
        await asyncio.sleep(0.01)
        print("done", file=sys.stderr)

    asyncio.run(main())
"""
