"""Run a program as ``python`` would, on ferrio's loop.

The program finds itself where ``python`` would have put it: ``sys.argv``, ``sys.path[0]``, a ``__main__`` module of its
own, its exit status, and tracebacks that begin with its own first frame. What is to happen just before it begins is the
caller's: ``before(name, source)``, with the program's name and, if it is no module, its text.
"""

import builtins
import io
import os
import sys
from importlib import machinery, util
from types import ModuleType

#: The ways to name a program.
WAYS = "(script.py | directory | archive.zip | -m module | -c code | -) [arguments]"

_HOME = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def run(words, before, refuse):
    """Run what ``words`` name; what it returns or raises becomes the process's exit status.

    :param before: called with the program's name and its text (None for a module), when it is about to begin.
    :param refuse: called with a reason if the words name nothing; what it returns is returned.
    """
    match words:
        case ["-m" | "-c" as option]:
            return refuse(f"argument expected for the {option} option")
        case ["-m", module, *arguments]:
            return _run_module(module, arguments, before)
        case ["-c", code, *arguments]:
            return _run_code(code, arguments, before)
        case ["-", *arguments]:
            return _run_standard_input(arguments, before)
        case [option, *_] if option.startswith("-"):
            return refuse(f"unknown option: {option}")
        case [path, *arguments]:
            return _run_path(path, arguments, before)
        case _:
            return refuse("nothing to run")


def _run_module(module, arguments, before):
    import runpy

    # "-m" stands there while the module is looked for; runpy then puts the module's path.
    sys.argv[:] = ["-m", *arguments]
    _prepare(os.getcwd())
    before(module, None)
    # What the interpreter itself calls for `-m`, so that the module meets the same `__main__`.
    return _call(runpy._run_module_as_main, module)


def _run_code(code, arguments, before):
    if sys.version_info >= (3, 14):
        from textwrap import dedent

        code = dedent(code)
    sys.argv[:] = ["-c", *arguments]
    namespace = _prepare("", __loader__=machinery.BuiltinImporter)
    before("<string>", code)
    return _call(_execute, code, "<string>", namespace)


def _run_standard_input(arguments, before):
    sys.argv[:] = ["-", *arguments]
    namespace = _prepare("", __loader__=machinery.BuiltinImporter, __file__="<stdin>")
    program = sys.stdin.buffer.read()
    before("<stdin>", program)
    return _call(_execute, program, "<stdin>", namespace)


def _run_path(path, arguments, before):
    import pkgutil
    import runpy

    sys.argv[:] = [path, *arguments]
    # Absolute but not otherwise tidied: what `python` puts into `__file__`, sys.path and tracebacks.
    file = os.path.join(os.getcwd(), path)
    if pkgutil.get_importer(path) is not None:
        # A directory or an archive: the program is its `__main__.py`, also where sys.path must not have the script's.
        if sys.flags.safe_path:
            sys.path.insert(0, file)
        _prepare(file)
        before(file, None)
        return _call(runpy._run_module_as_main, "__main__", False)

    try:
        with io.open_code(file) as stream:
            program = stream.read()
    except OSError as error:
        print(f"ferrio: can't open file {file!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        return 2
    compiled = program.startswith(util.MAGIC_NUMBER)
    loader = (machinery.SourcelessFileLoader if compiled else machinery.SourceFileLoader)("__main__", file)
    directory = os.path.dirname(os.path.realpath(path))
    namespace = _prepare(directory, __loader__=loader, __file__=file)
    before(file, None if compiled else program)
    if compiled:
        return _call(lambda: exec(loader.get_code("__main__"), namespace))
    return _call(_execute, program, file, namespace)


def _prepare(first_path, **attributes):
    """Make way for the program: its place on sys.path and its ``__main__``. Returns its namespace."""
    if not sys.flags.safe_path:
        # Where the interpreter put ferrio's own directory, or the current one.
        sys.path[0] = first_path
    module = ModuleType("__main__")
    module.__dict__.update(attributes, __builtins__=builtins)
    if "__file__" in attributes and sys.version_info < (3, 15):
        module.__cached__ = None
    sys.modules["__main__"] = module
    return module.__dict__


def _execute(program, file, namespace):
    exec(compile(program, file, "exec", dont_inherit=True), namespace)


def _call(function, *arguments):
    """Call the program; if it ends with an exception, what is shown of it begins in the program."""
    try:
        function(*arguments)
    except BaseException as error:
        sys.excepthook = _without_our_frames(sys.excepthook, error)
        # On to the interpreter, which knows the exit status of every exception, SystemExit and Ctrl-C included.
        raise
    return 0


def _without_our_frames(hook, error):
    theirs = error.__traceback__
    while theirs is not None and theirs.tb_frame.f_code.co_filename.startswith(_HOME):
        theirs = theirs.tb_next

    def show(kind, value, traceback):
        sys.excepthook = hook
        if value is error:
            traceback = theirs
            value = value.with_traceback(theirs)
        hook(kind, value, traceback)

    return show
