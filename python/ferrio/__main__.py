"""``python -m ferrio script.py`` and ``ferrio script.py``: run a program as ``python`` would, on ferrio's loop.

The program finds itself where ``python`` would have put it: ``sys.argv``, ``sys.path[0]``, a ``__main__`` module of its
own, its exit status, and tracebacks that begin with its own first frame.
"""

import builtins
import io
import os
import sys
from importlib import machinery, util
from types import ModuleType

USAGE = (
    "usage: ferrio [-h] [-V] [--loop-only] (script.py | directory | archive.zip | -m module | -c code | -) [arguments]"
)

HELP = f"""{USAGE}

Run an asyncio program, unmodified, on ferrio.

  script.py     a file; or a directory or zip archive with a __main__.py in it
  -m module     a module, as `python -m module`
  -c code       the code itself, as `python -c code`
  -             read the program from standard input
  -h, --help    show this and exit
  -V, --version show the version and exit
  --loop-only   ferrio's event loop, but asyncio's own queues, locks, streams, gather, …

asyncio.run(), asyncio.Runner() and asyncio.new_event_loop() make ferrio's loop, and asyncio.Queue, asyncio.gather, … are
ferrio's. A program that names another loop or policy itself keeps it. Options for the interpreter go before `-m`:  python -X dev -m ferrio script.py"""


#: What goes to `install()`.
_options: dict[str, bool] = {}


def main():
    """Run what the command line says; what returns or raises becomes the process's exit status."""
    words = sys.argv[1:]
    if words[:1] == ["--loop-only"]:
        _options["loop_only"] = True
        del words[0]
    match words:
        case [("-h" | "--help"), *_]:
            print(HELP)
        case [("-V" | "--version"), *_]:
            from . import __version__

            print(f"ferrio {__version__} (Python {sys.version.split()[0]})")
        case ["-m" | "-c" as option]:
            return _refuse(f"argument expected for the {option} option")
        case ["-m", module, *arguments]:
            return _run_module(module, arguments)
        case ["-c", code, *arguments]:
            return _run_code(code, arguments)
        case ["-", *arguments]:
            return _run_standard_input(arguments)
        case [option, *_] if option.startswith("-"):
            return _refuse(f"unknown option: {option}")
        case [path, *arguments]:
            return _run_path(path, arguments)
        case _:
            return _refuse("nothing to run")
    return 0


def _refuse(reason):
    print(f"ferrio: {reason}\n{USAGE}", file=sys.stderr)
    return 2


def _run_module(module, arguments):
    import runpy

    # "-m" stands there while the module is looked for; runpy then puts the module's path.
    sys.argv[:] = ["-m", *arguments]
    _prepare(os.getcwd())
    # What the interpreter itself calls for `-m`, so that the module meets the same `__main__`.
    _call(runpy._run_module_as_main, module)


def _run_code(code, arguments):
    if sys.version_info >= (3, 14):
        from textwrap import dedent

        code = dedent(code)
    sys.argv[:] = ["-c", *arguments]
    namespace = _prepare("", __loader__=machinery.BuiltinImporter)
    _call(_execute, code, "<string>", namespace)


def _run_standard_input(arguments):
    sys.argv[:] = ["-", *arguments]
    namespace = _prepare("", __loader__=machinery.BuiltinImporter, __file__="<stdin>")
    _call(_execute, sys.stdin.buffer.read(), "<stdin>", namespace)


def _run_path(path, arguments):
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
    if compiled:
        _call(lambda: exec(loader.get_code("__main__"), namespace))
    else:
        _call(_execute, program, file, namespace)


def _prepare(first_path, **attributes):
    """Make way for the program: its place on sys.path, its ``__main__``, its event loop. Returns its namespace."""
    from ._install import install

    if not sys.flags.safe_path:
        # Where the interpreter put ferrio's own directory, or the current one.
        sys.path[0] = first_path
    module = ModuleType("__main__")
    module.__dict__.update(attributes, __builtins__=builtins)
    if "__file__" in attributes and sys.version_info < (3, 15):
        module.__cached__ = None
    sys.modules["__main__"] = module
    install(**_options)
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


def _without_our_frames(hook, error):
    theirs = error.__traceback__
    while theirs is not None and theirs.tb_frame.f_code.co_filename == __file__:
        theirs = theirs.tb_next

    def show(kind, value, traceback):
        sys.excepthook = hook
        if value is error:
            traceback = theirs
            value = value.with_traceback(theirs)
        hook(kind, value, traceback)

    return show


if __name__ == "__main__":
    sys.exit(main())
