"""The page of one run: a single HTML file that replays the events of :mod:`ferrio.explain`.

What the page looks like and does is in ``template.html``, ``page.css`` and the ``.js`` files beside this module; this
module only puts them into one file together with the events. The file needs no network and no server. Nothing here runs
a program or watches a loop.
"""

import html
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

__all__ = ["render"]

# In this order: each uses what those before it define.
_SCRIPTS = (
    "run.js",
    "words.js",
    "scale.js",
    "elements.js",
    "source.js",
    "boxes.js",
    "moment.js",
    "timeline.js",
    "ending.js",
    "page.js",
)


def render(events: Iterable[Mapping[str, Any]]) -> str:
    """Return the page for `events`: the head first, then the events in their order, as ``explain --json`` writes them.

    The text is complete HTML, to be written as UTF-8. `ValueError` if there is no head, if the events are of a version
    that this page does not read, or if a number in them is not finite; `TypeError` if something in them is not JSON.
    """
    listed = list(events)
    if not listed or listed[0].get("event") != "head":
        raise ValueError("the first event must be the head")
    head = listed[0]
    if head.get("version") != 1:
        raise ValueError(f"this page reads events of version 1, not {head.get('version')!r}")
    parts = {
        "title": html.escape(str(head.get("program") or "a run")).encode("utf-8", "replace").decode(),
        "css": _read("page.css"),
        "events": _embedded(listed),
        "script": "\n".join(_read(name) for name in _SCRIPTS),
    }
    # In one pass: what has been put in is not searched for further marks.
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _read("template.html"))


def _embedded(listed: list[Mapping[str, Any]]) -> str:
    """JSON, one event a line, that no HTML parser takes for the end of the script, a comment or a second script."""
    lines = (json.dumps(event, separators=(",", ":"), allow_nan=False) for event in listed)
    return ("[" + ",\n".join(lines) + "]").replace("<", "\\u003c")


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
