"""Reads valgrind's report (XML) and says what in it is ours. Called by ci/leaks.sh.

An invalid access is always reported, wherever it happens. A lost block counts as the extension's if it was allocated on
the extension's behalf: going outwards from malloc, its code comes before the interpreter's evaluation loop.
"""

import sys
import xml.etree.ElementTree as ElementTree

#: Where the interpreter runs Python code: what is further out has not allocated the block.
INTERPRETER = ("_PyEval_", "PyEval_", "_PyFunction_Vectorcall", "import_find_and_load", "PyImport_")

#: What is made once per process, and meant to live as long.
FOR_EVER = ("make_types", "install_methods", "imports::imports", "LazyTypeObject")


def frames(stack):
    return [
        (frame.findtext("fn", "?"), frame.findtext("obj", ""), frame.findtext("file"), frame.findtext("line"))
        for frame in stack.iter("frame")
    ]


def is_ours(stack):
    ours = False
    for function, module, _, _ in stack:
        if function.startswith(INTERPRETER):
            break
        if any(name in function for name in FOR_EVER):
            return False
        ours = ours or "_ferrio" in module
    return ours


def show(title, stack):
    print(title)
    for function, module, file, line in stack[:16]:
        print(f"    {function} ({f'{file}:{line}' if file else module})")


def main(path):
    found = 0
    for error in ElementTree.parse(path).getroot().iter("error"):
        kind = error.findtext("kind")
        stack = frames(error.find("stack"))
        if kind.startswith("Leak_"):
            if kind != "Leak_DefinitelyLost" or not is_ours(stack):
                continue
            title = error.findtext("xwhat/text")
        else:
            title = error.findtext("what") or kind
        found += 1
        show(title, stack)
    print(f"leaks: {found or 'nothing'} found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
