"""The loops that are compared. A loop is named by its factory, written `module:attribute`."""

import importlib

LOOPS = {
    "asyncio": "asyncio:new_event_loop",
    "uvloop": "uvloop:new_event_loop",
    "ferrio": "ferrio:new_event_loop",
}


def factory(spec):
    """The callable that `module:attribute` names."""
    module, _, attribute = spec.partition(":")
    return getattr(importlib.import_module(module), attribute)


def split(names):
    """The loops that can be used here, in the order asked for, and why each of the others cannot."""
    present, absent = {}, {}
    for name in names:
        try:
            factory(LOOPS[name])
        except (ImportError, AttributeError) as error:
            absent[name] = str(error)
        else:
            present[name] = LOOPS[name]
    return present, absent


def class_name(loop):
    return f"{type(loop).__module__}.{type(loop).__qualname__}"
