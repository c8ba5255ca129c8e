"""The loops that are compared. A loop is named by its factory, written `module:attribute`."""

import importlib

#: name: the factory. Those that are not installed (benches/peers.txt) are named as absent.
LOOPS = {
    "asyncio": "asyncio:new_event_loop",
    "uvloop": "uvloop:new_event_loop",
    "rloop": "rloop:new_event_loop",
    "rsloop": "rsloop:new_event_loop",
    "zuvloop": "zuvloop:new_event_loop",
    "aiofastnet": "benches.loops:aiofastnet_over_uvloop",
    "ferrio": "ferrio:new_event_loop",
    "ferrio-spin": "benches.loops:ferrio_spinning",
}

#: They take part only if asked for.
ON_REQUEST = {"ferrio-spin"}

#: They differ from another loop only in what goes through sockets: aiofastnet replaces uvloop's transports.
ONLY_NETWORK = {"aiofastnet", "ferrio-spin"}


def aiofastnet_over_uvloop():
    import aiofastnet
    import uvloop

    return aiofastnet.loop_factory(uvloop.new_event_loop)()


def ferrio_spinning():
    """ferrio's loop, which asks for 20 us before it sleeps."""
    import ferrio

    return ferrio.EventLoop(spin=20e-6)


def namespace(loop):
    """The module whose `Queue`, `Lock`, `start_server`, … belong to this loop: a program's `import … as asyncio`."""
    if type(loop).__module__.partition(".")[0] == "ferrio":
        return importlib.import_module("ferrio")
    return importlib.import_module("asyncio")


def factory(spec):
    """The callable that `module:attribute` names."""
    module, _, attribute = spec.partition(":")
    return getattr(importlib.import_module(module), attribute)


def split(names):
    """The loops that can be used here, in the order asked for, and why each of the others cannot."""
    present, absent = {}, {}
    for name in names:
        try:
            factory(LOOPS[name])().close()
        except (ImportError, AttributeError, OSError) as error:
            absent[name] = str(error)
        else:
            present[name] = LOOPS[name]
    return present, absent


def class_name(loop):
    return f"{type(loop).__module__}.{type(loop).__qualname__}"
