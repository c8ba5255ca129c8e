"""Importing ferrio, and using it, leaves asyncio alone."""

import pytest

from .support import run_python


@pytest.mark.ferrio_only("it is ferrio's import that is looked at")
@pytest.mark.parametrize(
    "use",
    [
        "pass",
        "ferrio.new_event_loop().close()",
        "ferrio.EventLoop",
        "asyncio.Runner(loop_factory=ferrio.new_event_loop).run(asyncio.sleep(0))",
    ],
)
def test_importing_and_using_ferrio_changes_nothing_in_asyncio(use):
    run_python(
        """
        import asyncio, gc, inspect, signal, sys, _asyncio, ssl, socket, subprocess, concurrent.futures, selectors, threading

        def state():
            modules = {name: module for name, module in sys.modules.items()
                       if name.partition(".")[0] in ("asyncio", "_asyncio", "ssl", "socket", "selectors", "subprocess", "signal", "threading")}
            found = {}
            for name, module in modules.items():
                for attribute, value in vars(module).items():
                    found[name, attribute] = id(value)
                    if inspect.isclass(value) and value.__module__ == name:
                        for member, inner in vars(value).items():
                            if not member.startswith("_abc"):
                                found[name, attribute, member] = id(inner)
            return found

        keep = [dict(vars(module)) for module in list(sys.modules.values())]
        asyncio.Runner().run(asyncio.sleep(0))  # So that what asyncio sets up by itself is there.
        policy = asyncio.get_event_loop_policy() if sys.version_info < (3, 14) else None
        before = state()
        import ferrio
        %s
        after = state()
        changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        allowed = {"_event_loop_policy", "_counter", "_task_name_counter"}
        assert [key for key in changed if not allowed & set(key)] == [], changed
        assert policy is None or asyncio.get_event_loop_policy() is policy
        with asyncio.Runner() as runner:
            assert type(runner.get_loop()).__module__.startswith("asyncio")
    """
        % use
    )
