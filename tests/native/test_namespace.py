"""`import ferrio as asyncio`: every name of this interpreter's asyncio; and what `ferrio.install()` puts in asyncio's places."""

import asyncio
import importlib
import inspect
import subprocess
import sys

import ferrio
import pytest
from ferrio import _install

SUBMODULES = sorted(name for name, value in vars(asyncio).items() if inspect.ismodule(value) and name != "sys")
NATIVES = list(_install.natives())


def run(code):
    """Run a program in an interpreter of its own, which says nothing if all is well."""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_every_public_name_of_asyncio_is_there():
    assert set(asyncio.__all__) <= set(ferrio.__all__)
    assert [name for name in ferrio.__all__ if not hasattr(ferrio, name)] == []


def test_what_ferrio_has_not_of_its_own_is_asyncios():
    own = {native for _, native in NATIVES}
    replaced = [name for name in asyncio.__all__ if getattr(ferrio, name) is not getattr(asyncio, name)]
    assert {name for name in replaced if getattr(ferrio, name) not in own} <= {
        "EventLoop", "Runner", "Server", "get_event_loop", "new_event_loop", "run",
    }  # fmt: skip


@pytest.mark.parametrize("name", SUBMODULES)
def test_every_submodule_of_asyncio_is_there_with_its_public_names(name):
    ours, theirs = importlib.import_module(f"ferrio.{name}"), getattr(asyncio, name)
    assert getattr(ferrio, name) is ours
    names = getattr(theirs, "__all__", None) or [name for name in vars(theirs) if not name.startswith("_")]
    if ours is not theirs:
        names = theirs.__all__
    assert [name for name in names if not hasattr(ours, name)] == []


def test_names_that_asyncio_gives_only_when_asked_are_given():
    run("""
import warnings; warnings.simplefilter("ignore", DeprecationWarning)
import asyncio, ferrio
if hasattr(asyncio, "DefaultEventLoopPolicy"):
    assert ferrio.DefaultEventLoopPolicy is asyncio.DefaultEventLoopPolicy
try:
    ferrio.nothing_of_this_name
except AttributeError as error:
    assert "nothing_of_this_name" in str(error)
else:
    raise AssertionError
""")


def test_one_changed_line_is_the_whole_migration():
    run("""
import ferrio as asyncio

async def worker(queue, lock, done):
    async with lock:
        done.append(await queue.get())
        queue.task_done()

async def main():
    queue, lock, done = asyncio.Queue(), asyncio.Lock(), []
    tasks = [asyncio.create_task(worker(queue, lock, done)) for _ in range(3)]
    for item in range(3):
        await queue.put(item)
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    process = await asyncio.create_subprocess_exec("true", stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0
    assert type(asyncio.get_running_loop()) is asyncio.EventLoop
    return done

assert asyncio.run(main()) == [0, 1, 2]
with asyncio.Runner() as runner:
    assert runner.run(main()) == [0, 1, 2]
""")


def test_get_event_loop_makes_ferrios_where_asyncio_would_make_one():
    run("""
import sys, warnings; warnings.simplefilter("ignore", DeprecationWarning)
import asyncio, ferrio
if sys.version_info < (3, 14):
    loop = ferrio.get_event_loop()
    assert type(loop) is ferrio.EventLoop
    assert asyncio.get_event_loop() is ferrio.get_event_loop() is loop
    loop.close()
else:
    try:
        ferrio.get_event_loop()
    except RuntimeError as error:
        assert "no current event loop" in str(error)
    else:
        raise AssertionError
loop = asyncio.SelectorEventLoop()
asyncio.set_event_loop(loop)
assert ferrio.get_event_loop() is loop
async def main():
    assert ferrio.get_event_loop() is loop
loop.run_until_complete(main())
loop.close()
""")


@pytest.mark.parametrize("original, native", NATIVES, ids=[native.__name__ for _, native in NATIVES])
def test_instances_of_either_class_are_instances_of_the_other(original, native):
    if not inspect.isclass(native):
        assert inspect.iscoroutinefunction(native) == inspect.iscoroutinefunction(original)
        return
    assert issubclass(native, original)
    assert issubclass(original, native)
    assert not issubclass(int, native)
    assert not issubclass(original, type("Users", (native,), {}))


@pytest.mark.parametrize("original, native", NATIVES, ids=[native.__name__ for _, native in NATIVES])
def test_signatures_and_coroutine_functions_are_asyncios(original, native):
    if not inspect.isclass(native):
        ours, theirs = (inspect.signature(function).parameters.values() for function in (native, original))
        assert [parameter.replace(annotation=None) for parameter in ours] == [
            parameter.replace(annotation=None) for parameter in theirs
        ]
        return
    for name, method in vars(original).items():
        if not name.startswith("_") and inspect.isroutine(method):
            ours = getattr(native, name)
            assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(method), name


def test_install_puts_ferrios_into_all_of_asyncio_and_uninstall_takes_them_out():
    run("""
import asyncio, ferrio
from ferrio._install import natives
places = {(module, original.__name__): original for original, _ in natives() for module in vars(asyncio).values()
          if getattr(module, "__name__", "").startswith("asyncio.") and vars(module).get(original.__name__) is original}
assert places
ferrio.install()
for original, native in natives():
    assert getattr(asyncio, native.__name__) is native
for (module, name), original in places.items():
    assert getattr(module, name) is not original, (module, name)
ferrio.install(loop_only=True)
ferrio.uninstall()
assert asyncio.Lock is ferrio.Lock
ferrio.uninstall()
for (module, name), original in places.items():
    assert getattr(module, name) is original
assert asyncio.Lock is not ferrio.Lock
""")


def test_importing_changes_nothing():
    run("""
import asyncio
before = {name: dict(vars(module)) for name, module in [("", asyncio), *vars(asyncio).items()] if hasattr(module, "__all__")}
import ferrio
ferrio.run(ferrio.sleep(0))
after = {name: dict(vars(module)) for name, module in [("", asyncio), *vars(asyncio).items()] if hasattr(module, "__all__")}
assert before == after
""")


def test_python_m_ferrio_installs_all_of_it_and_loop_only_refrains():
    program = "import asyncio; print(asyncio.Lock.__module__, type(asyncio.new_event_loop()).__name__)"
    for options, module in [([], "ferrio.locks"), (["--loop-only"], "asyncio.locks")]:
        command = [sys.executable, "-m", "ferrio", *options, "-c", program]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert ran.stdout.split() == [module, "EventLoop"], ran.stderr
