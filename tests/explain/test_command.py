"""The command line of ``ferrio explain``."""

import subprocess
import sys
import textwrap

import pytest

from .conftest import HERE, SIMPLE, explain


@pytest.mark.parametrize("way", ["-m", "-c", "-"])
def test_every_way_to_name_a_program(way, program):
    path = program(SIMPLE, "named.py")
    text = textwrap.dedent(SIMPLE)
    words = {"-m": ["-m", "named"], "-c": ["-c", text], "-": ["-"]}[way]
    ran = explain("--fast", *words, "a", cwd=path.parent, stdin=text)
    assert "│ args ['a']" in ran.stdout and "main       starts at line 4." in ran.stdout
    assert "`await asyncio.sleep(0.01)`" in ran.stdout


def test_verbose_says_why_there_are_inner_callbacks():
    story = explain("--fast", "-v", "gather.py").stdout
    assert "gather counts which of its tasks have finished" in story
    assert "it stops the loop when the main task has finished" in story


@pytest.mark.parametrize(
    "words", [["--nonsense", "x.py"], [], ["--page"], ["-m"], ["--page", "missing/x.html", "x.py"]]
)
def test_a_wrong_command_line_is_refused(words):
    ran = explain(*words, check=False)
    assert ran.returncode == 2 and ran.stdout == "" and "usage: ferrio explain" in ran.stderr


def test_help():
    said = explain("--help").stdout
    assert all(option in said for option in ("--fast", "--step", "-v", "--json", "--page", "--loop-only"))


def test_a_script_named_like_the_command_is_still_reached(program):
    path = program("print('the script')", "explain")
    ran = subprocess.run(
        [sys.executable, "-m", "ferrio", "./explain"], cwd=path.parent, capture_output=True, text=True, timeout=30
    )
    assert (ran.stdout, ran.stderr) == ("the script\n", "")


def test_a_page_holds_the_same_events(program, tmp_path):
    pytest.importorskip("ferrio.page", reason="this build has no pages")
    explain("--fast", f"--page={tmp_path / 'out.html'}", "gather.py")
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "It tells gather (3 of 3)" in page and "async def brew" in page


def test_the_examples_of_the_tutorial(tmp_path):
    tutorial = HERE.parent.parent / "examples" / "tutorial.py"
    story = explain("--fast", tutorial).stdout
    assert "kettle#2" in story and "THE BILL  8 s virtual time" in story
