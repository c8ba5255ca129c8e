"""What the documentation shows is what is printed."""

import re

from .conftest import HERE, explain

PAGE = HERE.parent.parent / "docs" / "what-happens-at-an-await.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)


def test_the_program_is_the_one_that_is_told_of():
    assert blocks("python") == [(HERE / "programs" / "kettles.py").read_text()]


def test_the_story_is_the_real_one_and_nothing_is_left_out():
    story = explain("--fast", "kettles.py", COLUMNS="").stdout
    shown = "".join(blocks("text"))
    _, _, told = story.partition("no time.\n\n")
    assert shown.replace("\n\n", "\n") == told.replace("\n\n", "\n")
