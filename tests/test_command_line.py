"""``python -m ferrio``: the program meets what ``python`` would have given it, and ferrio's loop."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, sys

async def main():
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]

def by_new_event_loop():
    loop = asyncio.new_event_loop()
    with_loop = loop.run_until_complete(main())
    loop.close()
    return with_loop

def by_runner():
    with asyncio.Runner() as runner:
        return runner.run(main())

print(__name__, sys.argv[1:], asyncio.run(main()), by_runner(), by_new_event_loop())
"""

ANSWER = "__main__ ['a', '-b'] ferrio ferrio ferrio\n"


def ferrio(*words, stdin="", interpreter=(), cwd=None):
    command = [sys.executable, *interpreter, "-m", "ferrio", *words]
    return subprocess.run(command, input=stdin, cwd=cwd, capture_output=True, text=True, timeout=30)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.parametrize("way", ["script", "module", "code", "stdin", "directory"])
def test_every_way_to_name_a_program_runs_it_on_ferrio(way, program):
    words = {
        "script": ["program.py"],
        "module": ["-m", "program"],
        "code": ["-c", PROGRAM],
        "stdin": ["-"],
        "directory": ["."],
    }[way]
    program.with_name("__main__.py").write_text(PROGRAM)
    ran = ferrio(*words, "a", "-b", stdin=PROGRAM, cwd=program.parent)
    assert (ran.stdout, ran.stderr) == (ANSWER, "")


def test_the_console_command_does_the_same(program):
    command = Path(sys.executable).with_name("ferrio")
    ran = subprocess.run([command, program, "a", "-b"], capture_output=True, text=True, timeout=30)
    assert (ran.stdout, ran.stderr) == (ANSWER, "")


SURROUNDINGS = """
import sys
names = ["__name__", "__file__", "__package__", "__doc__", "__cached__", "__builtins__"]
for name in names:
    print(name, repr(globals().get(name, "not there")))
print(getattr(__spec__, "name", __spec__), type(__loader__), sys.argv, sys.path, sys.modules["__main__"].__dict__ is globals())
"""


@pytest.mark.parametrize("interpreter", [(), ("-P",)], ids=["plain", "safe path"])
@pytest.mark.parametrize(
    "words",
    [
        ["folder/program.py", "x"],
        ["-m", "package", "x"],
        ["-m", "folder.program"],
        ["-c", SURROUNDINGS],
        ["-", "x"],
        ["package"],
    ],
    ids=lambda words: words[0] + words[1] if words[0] == "-m" else words[0],
)
def test_the_program_cannot_tell_the_difference_from_python(words, interpreter, tmp_path):
    for file in ["folder/program.py", "package/__main__.py"]:
        path = tmp_path / file
        path.parent.mkdir()
        path.write_text(SURROUNDINGS)
    by_python = subprocess.run(
        [sys.executable, *interpreter, *words],
        input=SURROUNDINGS,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    by_ferrio = ferrio(*words, stdin=SURROUNDINGS, interpreter=interpreter, cwd=tmp_path)
    # Where the module is missing from the path (safe path), both say so, each under its own name.
    assert (by_ferrio.stdout, by_ferrio.returncode) == (by_python.stdout, by_python.returncode)


@pytest.mark.parametrize(
    "ending",
    ["raise SystemExit", "raise SystemExit(7)", "raise SystemExit('why')", "1 / 0", "raise KeyboardInterrupt", "def ("],
)
def test_the_program_ends_as_under_python(ending, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(f"def end():\n    {ending}\n\nend()\n")
    by_python = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=30)
    by_ferrio = ferrio(path)
    assert by_ferrio.stderr == by_python.stderr
    assert by_ferrio.returncode == by_python.returncode


def test_a_missing_file_is_named(tmp_path):
    ran = ferrio("missing.py", cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr == f"ferrio: can't open file '{tmp_path / 'missing.py'}': [Errno 2] No such file or directory\n"


@pytest.mark.parametrize("words", [["--colour"], ["-m"], ["-c"], []], ids=lambda words: " ".join(words) or "nothing")
def test_what_cannot_be_understood_is_refused_with_the_usage(words):
    ran = ferrio(*words)
    assert ran.returncode == 2
    assert "usage: ferrio" in ran.stderr
    assert all(word in ran.stderr for word in words)


def test_help_and_version():
    import ferrio as package

    assert "usage: ferrio" in ferrio("--help").stdout
    assert ferrio("--version").stdout.startswith(f"ferrio {package.__version__} ")


def test_a_policy_that_the_program_sets_itself_is_respected():
    code = """
import asyncio, warnings
warnings.simplefilter("ignore")
asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
async def main(): return type(asyncio.get_running_loop()).__module__
print(asyncio.run(main()))
"""
    assert ferrio("-c", code).stdout.startswith("asyncio.")


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("way", ["script", "module"])
def test_processes_of_multiprocessing_find_the_main_module(way, method, tmp_path):
    (tmp_path / "program.py").write_text(f"""
import multiprocessing

class Here: pass

def work(queue):
    queue.put(Here())

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    queue = context.Queue()
    process = context.Process(target=work, args=(queue,))
    process.start()
    print(isinstance(queue.get(timeout=20), Here))
    process.join()
""")
    ran = ferrio(*(["program.py"] if way == "script" else ["-m", "program"]), cwd=tmp_path)
    assert (ran.stdout, ran.returncode) == ("True\n", 0), ran.stderr


def test_without_policies_install_replaces_the_function_that_makes_loops():
    code = """
import asyncio, ferrio
# Away from where users find it; asyncio's own modules keep theirs, which the rest of this CPython needs.
vars(asyncio).pop("set_event_loop_policy", None)
vars(asyncio).pop("__getattr__", None)
stock = asyncio.new_event_loop
ferrio.install()
async def main(): return type(asyncio.get_running_loop())
assert asyncio.run(main()) is ferrio.EventLoop
ferrio.uninstall()
assert asyncio.new_event_loop is asyncio.events.new_event_loop is stock
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")
