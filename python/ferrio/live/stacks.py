"""Stacks of threads, as ``faulthandler`` writes them."""

import re

_THREAD = re.compile(r"(Current thread|Thread) 0x([0-9a-f]+)(?: \[(.*?)\])? ?.*:")
_LINE = re.compile(r'  File "(.*)", line (\d+|\?\?\?) in (.*)')


def parse(text):
    """[{"thread": number of the thread (`threading.get_ident()`), "is_current", "stack": [[file, line, function], …]}, …]

    Innermost lines first; the thread that the signal has reached comes first.
    """
    found = []
    for line in text.splitlines():
        if match := _THREAD.match(line):
            current = match[1] == "Current thread"
            found.append({"thread": int(match[2], 16), "is_current": current, "stack": []})
        elif found and (match := _LINE.match(line)):
            found[-1]["stack"].append([match[1], int(match[2]) if match[2].isdigit() else 0, match[3]])
    # Several dumps may have come one after the other: the last of each thread counts.
    last = {one["thread"]: one for one in found}
    return sorted(last.values(), key=lambda one: not one["is_current"])
