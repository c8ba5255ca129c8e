"""The stock loop as a stranger to its own tests: `--factory opaque` shows which tests read or replace CPython's private parts.

It is CPython's loop, loaded a second time under this module's name, so that its classes are not those the tests import and patch; and what
the tests reach for with a leading underscore is not there. A test that passes on the stock loop and fails here cannot pass on any other
loop, however well it behaves: these are the tests that exceptions.toml calls private. The list is checked against this loop, not guessed.
"""

import asyncio
import importlib.util
import sys
import types

# The modules that make up the loop, in the order in which they import each other. All else (tasks, futures, streams, events...) is shared.
LOOP_MODULES = ("constants", "sslproto", "base_events", "base_subprocess", "selector_events", "unix_events")


def _load_loop_again():
    package = types.ModuleType("_opaque_asyncio")
    package.__path__ = []
    package.__dict__.update({name: value for name, value in vars(asyncio).items() if not name.startswith("__")})
    sys.modules[package.__name__] = package
    for name, module in list(sys.modules.items()):
        if name.startswith("asyncio.") and name.removeprefix("asyncio.") not in LOOP_MODULES:
            sys.modules[name.replace("asyncio", package.__name__, 1)] = module
    for name in LOOP_MODULES:
        original = importlib.import_module(f"asyncio.{name}").__spec__
        spec = importlib.util.spec_from_file_location(f"{package.__name__}.{name}", original.origin)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        setattr(package, name, module)
        spec.loader.exec_module(module)
    return package


def _hide(cls):
    """Makes the private attributes of the objects of a class invisible to the tests, and theirs to the objects."""
    get, set_ = cls.__getattribute__, cls.__setattr__

    def __getattribute__(self, name):
        return get(self, "_of_the_tests" + name if _is_for_a_test(name) else name)

    def __setattr__(self, name, value):
        set_(self, "_of_the_tests" + name if _is_for_a_test(name) else name, value)

    cls.__getattribute__, cls.__setattr__ = __getattribute__, __setattr__


def _is_for_a_test(name):
    """Whether a test, as against the loop itself or the library, is asking for a private name."""
    return (
        name.startswith("_")
        and not name.startswith("__")
        and sys._getframe(2).f_globals["__name__"].startswith("test.")
    )


_loop = _load_loop_again()
EventLoop = _loop.unix_events.SelectorEventLoop
for _class in (
    EventLoop,
    _loop.base_events.Server,
    _loop.selector_events._SelectorSocketTransport,
    _loop.selector_events._SelectorDatagramTransport,
    _loop.sslproto._SSLProtocolTransport,
    _loop.base_subprocess.BaseSubprocessTransport,
    _loop.unix_events._UnixReadPipeTransport,
    _loop.unix_events._UnixWritePipeTransport,
):
    _hide(_class)


def new_event_loop():
    return EventLoop()
