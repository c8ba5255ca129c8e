"""Who awaits whom, as debuggers and `python -m asyncio pstree` see it: through everything that ferrio has of its own."""

import asyncio
import os
import subprocess
import sys
import textwrap

import pytest

from tests.awaiting import as_completed, gather, group, shield, skip_if_early, timeout, wait, wait_first, wait_for

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs came with CPython 3.14")


async def group_without_wait(namespace, child):
    async with namespace.TaskGroup() as group:
        task = group.create_task(child())
        await task


async def as_completed_async(namespace, child):
    async for one in namespace.as_completed([child(), child()]):
        await one


WAYS = [
    gather, group, group_without_wait, wait, wait_first, shield, wait_for, timeout, as_completed, as_completed_async,
]  # fmt: skip


def awaited_by(task):
    return [edge.future.get_name() for edge in asyncio.capture_call_graph(task).awaited_by]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_child_is_awaited_by_its_parent_until_it_is_done(namespace, run, way):
    skip_if_early(namespace, way in (as_completed, as_completed_async))
    seen = []

    async def child():
        await asyncio.sleep(0)  # The parent waits by now.
        seen.append(asyncio.current_task())
        assert awaited_by(seen[-1]) == ["parent"]

    async def main():
        parent = asyncio.create_task(way(namespace, child), name="parent")
        await parent
        await asyncio.sleep(0)
        assert seen
        assert [awaited_by(task) for task in seen] == [[]] * len(seen)

    run(main())


@pytest.mark.parametrize("way", [wait, wait_first, shield, as_completed, group], ids=lambda way: way.__name__)
def test_a_cancelled_parent_awaits_no_more(namespace, run, way):
    skip_if_early(namespace, way is shield)
    children = []

    async def child():
        children.append(asyncio.current_task())
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    async def main():
        parent = asyncio.create_task(way(namespace, child), name="parent")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        parent.cancel()
        await asyncio.wait([parent])
        # (as_completed leaves its edges where they are.)
        if way is not as_completed:
            assert [awaited_by(task) for task in children] == [[]] * len(children)
        for task in children:
            task.cancel()
        await asyncio.gather(*children)

    run(main())


WAITS = {
    "queue": ("queue = asyncio.Queue()", "await queue.get()"),
    "lock": ("lock = asyncio.Lock(); await lock.acquire()", "await lock.acquire()"),
    "event": ("event = asyncio.Event()", "await event.wait()"),
    "semaphore": ("semaphore = asyncio.Semaphore(0)", "await semaphore.acquire()"),
    "stream": ("reader = asyncio.StreamReader()", "await reader.readline()"),
    "sleep": ("", "await asyncio.sleep(60)"),
}


@pytest.mark.parametrize("waits, way", [*((waits, "gather") for waits in WAITS), ("queue", "TaskGroup")])
def test_python_m_asyncio_shows_the_tasks_of_a_running_program(tmp_path, waits, way):
    make, wait = WAITS[waits]
    through = {
        "gather": "await asyncio.gather(waiter())",
        "TaskGroup": "async with asyncio.TaskGroup() as group: group.create_task(waiter(), name='the waiter')",
    }[way]
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent(f"""
        import asyncio

        async def main():
            asyncio.current_task().set_name("the parent")
            {make}

            async def waiter():
                asyncio.current_task().set_name("the waiter")
                loop = asyncio.get_running_loop()
                loop.call_later(0, lambda: print("ready", type(loop).__module__, flush=True))
                {wait}

            {through}

        asyncio.run(main())
        """)
    )
    program = subprocess.Popen([sys.executable, "-m", "ferrio", script], stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout.readline() == "ready ferrio.event_loop\n"

        def tool(name):
            ran = subprocess.run(
                [sys.executable, "-m", "asyncio", name, str(program.pid)],
                capture_output=True,
                text=True,
                timeout=30,
                env=os.environ | {"PYTHON_COLORS": "0"},
            )
            assert ran.returncode == 0, ran.stderr
            return ran.stdout

        tree = tool("pstree")
        assert tree.index("the parent") < tree.index("the waiter")
        assert "waiter" in tree and "main" in tree
        table = [line for line in tool("ps").splitlines() if "the waiter" in line]
        assert len(table) == 1
        assert "the parent" in table[0]
    finally:
        program.kill()
        program.wait()
