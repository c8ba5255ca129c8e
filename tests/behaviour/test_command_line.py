"""An asyncio program started by `python -m ferrio` ends as it does under `python`, and every loop it makes is ferrio's.

How the program is found and what surroundings it meets is tested in tests/test_command_line.py; here it is asyncio's turn.
"""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from .support import run_python

pytestmark = pytest.mark.ferrio_only("it is ferrio's command line")

WHICH = """
import asyncio, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)

async def which():
    await asyncio.sleep(0)
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]
"""

WAYS = {
    "asyncio.run": "print(asyncio.run(which()))",
    "asyncio.run with debug": "print(asyncio.run(which(), debug=True))",
    "a Runner": """
        with asyncio.Runner() as runner:
            print(runner.run(which()))
    """,
    "new_event_loop": """
        loop = asyncio.new_event_loop()
        print(loop.run_until_complete(which()))
        loop.close()
    """,
    "asyncio.events.new_event_loop": """
        loop = asyncio.events.new_event_loop()
        print(loop.run_until_complete(which()))
        loop.close()
    """,
    "a loop that is set": """
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        print(asyncio.get_event_loop().run_until_complete(which()))
        loop.close()
    """,
    "a thread": """
        thread = threading.Thread(target=lambda: print(asyncio.run(which())))
        thread.start()
        thread.join()
    """,
    "unittest": """
        import unittest

        class Test(unittest.IsolatedAsyncioTestCase):
            async def test(self):
                print(await which())

        unittest.main(exit=False)
    """,
}

if sys.version_info < (3, 14):
    WAYS["get_event_loop"] = """
        loop = asyncio.get_event_loop()
        print(loop.run_until_complete(which()))
        loop.close()
    """

if sys.version_info < (3, 16):
    WAYS["the policy"] = """
        loop = asyncio.get_event_loop_policy().new_event_loop()
        print(loop.run_until_complete(which()))
        loop.close()
    """


def ferrio(*words, options=(), cwd=None, **keywords):
    return subprocess.run(
        [sys.executable, *options, "-m", "ferrio", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=cwd,
        **keywords,
    )


@pytest.fixture
def script(tmp_path):
    def write(source, name="script.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(source))
        return path

    return write


@pytest.mark.parametrize("way", WAYS)
def test_whatever_way_a_script_starts_its_loop_it_is_ferrios(script, way):
    ran = ferrio(script(WHICH + textwrap.dedent(WAYS[way])))
    assert ran.stdout == "ferrio\n", ran.stderr
    assert ran.returncode == 0


@pytest.mark.parametrize("way", ["asyncio.run", "a Runner", "new_event_loop"])
def test_the_same_program_under_python_is_on_asyncios_own_loop(script, way):
    path = script(WHICH + textwrap.dedent(WAYS[way]))
    ran = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=30)
    assert ran.stdout == "asyncio\n", ran.stderr


ENDINGS = {
    "an exception": "raise ValueError('from the coroutine')",
    "SystemExit": "raise SystemExit(42)",
    "sys.exit with a text": "sys.exit('a last word')",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "an exception group": "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])",
    "a cancelled main task": "asyncio.current_task().cancel(); await asyncio.sleep(0)",
    "a failing callback": "asyncio.get_running_loop().call_soon(lambda: 1 / 0); await asyncio.sleep(0.01)",
    "a task nobody waits for": "asyncio.create_task(asyncio.sleep(100)); await asyncio.sleep(0)",
    "os._exit": "import os; sys.stdout.flush(); os._exit(7)",
}


def without_the_loops_frames(traceback):
    """The traceback's lines but for the frames inside asyncio and ferrio: how the loop is written is no affair of the program's."""
    kept, inside = [], False
    for line in traceback.splitlines():
        text = line.lstrip(" |+")  # Exception groups put these in front.
        if text.startswith('File "'):
            inside = "/asyncio/" in text or "/ferrio/" in text
        elif not line[:1].isspace() or text.startswith(("Traceback", "---")) or "Error: " in text:
            inside = False
        if not inside:
            kept.append(re.sub(r"0x[0-9a-f]+", "0x", line))
    return kept


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_ends_with_pythons_exit_status_and_traceback(script, ending):
    path = script(f"""
        import asyncio, sys

        async def main():
            print("running")
            {ENDINGS[ending]}

        asyncio.run(main())
    """)
    by_python = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=30)
    by_ferrio = ferrio(path)
    assert (by_ferrio.returncode, by_ferrio.stdout) == (by_python.returncode, by_python.stdout)
    assert without_the_loops_frames(by_ferrio.stderr) == without_the_loops_frames(by_python.stderr)


def test_a_traceback_shows_no_frame_of_the_command_line(script):
    ran = ferrio(script("def fails():\n    1 / 0\n\nfails()\n"))
    assert ran.stderr.count("File ") == 2
    assert "ferrio/__main__" not in ran.stderr and "runpy" not in ran.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_program_as_under_python(script, number):
    path = script("""
        import asyncio

        async def main():
            try:
                print("running", flush=True)
                await asyncio.sleep(20)
            finally:
                print("cleaned up", flush=True)

        asyncio.run(main())
    """)

    def ended(*command):
        with subprocess.Popen(
            [sys.executable, *command, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "running\n"
            time.sleep(0.1)
            process.send_signal(number)
            out, err = process.communicate(timeout=10)
            return process.returncode, out, err.strip().splitlines()[-1:]

    assert ended("-m", "ferrio") == ended()


def test_dev_mode_reaches_the_loop(script):
    path = script("""
        import asyncio

        async def main():
            print(asyncio.get_running_loop().get_debug())

        asyncio.run(main())
    """)
    assert ferrio(path).stdout == "False\n"
    assert ferrio(path, options=("-X", "dev")).stdout == "True\n"
    assert ferrio(path, env={**os.environ, "PYTHONASYNCIODEBUG": "1"}).stdout == "True\n"


def test_nothing_is_printed_that_the_program_did_not_print(script):
    path = script("""
        import asyncio

        async def main():
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\\n")
            print(await reader.readline())
            writer.close()
            await writer.wait_closed()

        async def serve(reader, writer):
            writer.write(await reader.readline())
            writer.close()

        async def all():
            global server
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            async with server:
                await main()
                process = await asyncio.create_subprocess_exec("true")
                print(await process.wait())
                print(await asyncio.to_thread(lambda: "thread"))

        asyncio.run(all())
    """)
    ran = ferrio(path, options=("-W", "error", "-X", "dev"))
    assert (ran.stdout, ran.stderr, ran.returncode) == ("b'hello\\n'\n0\nthread\n", "", 0)


# install and uninstall


def test_install_and_uninstall_are_reversible():
    done = run_python(
        WHICH
        + """
import ferrio

def state():
    names = [name for name in vars(asyncio) if not name.startswith("__")]
    return {name: id(getattr(asyncio, name)) for name in names}

before = state()
print(asyncio.run(which()))
for _ in range(2):
    ferrio.install()
    print(asyncio.run(which()))
    with asyncio.Runner() as runner:
        print(runner.run(which()))
    loop = asyncio.new_event_loop()
    print(loop.run_until_complete(which()))
    loop.close()
    ferrio.uninstall()
    print(asyncio.run(which()))
    after = state()
    assert before == after, {name for name in before if before[name] != after.get(name)}
ferrio.uninstall()
print(asyncio.run(which()))
"""
    )
    assert done.stdout.split() == ["asyncio", *["ferrio", "ferrio", "ferrio", "asyncio"] * 2, "asyncio"]
    assert done.stderr == ""


def test_install_twice_needs_uninstall_twice_or_once_but_ends_where_it_began():
    done = run_python(
        WHICH
        + """
import ferrio

ferrio.install()
ferrio.install()
print(asyncio.run(which()))
ferrio.uninstall()
ferrio.uninstall()
print(asyncio.run(which()))
"""
    )
    assert done.stdout.split() == ["ferrio", "asyncio"]


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="there are no policies any more")
def test_the_policy_is_made_only_when_asked_for_and_is_asyncios():
    done = run_python(
        WHICH
        + """
import ferrio

assert "EventLoopPolicy" not in vars(ferrio)
policy = ferrio.EventLoopPolicy()
assert isinstance(policy, asyncio.AbstractEventLoopPolicy)
asyncio.set_event_loop_policy(policy)
print(asyncio.run(which()))
assert asyncio.get_event_loop_policy() is policy
loop = policy.new_event_loop()
assert isinstance(loop, ferrio.EventLoop)
policy.set_event_loop(loop)
assert policy.get_event_loop() is loop
policy.set_event_loop(None)
loop.close()
asyncio.set_event_loop_policy(None)
print(asyncio.run(which()))
try:
    ferrio.no_such_name
except AttributeError as error:
    assert "no_such_name" in str(error)
"""
    )
    assert done.stdout.split() == ["ferrio", "asyncio"]
