"""Starting a child: keywords, arguments, streams, and starts that fail."""

import asyncio
import os
import signal
import subprocess

import pytest

from .support import PYTHON, Recorder, within


@pytest.mark.parametrize(
    "keywords, words",
    [
        ({"universal_newlines": True}, "universal_newlines must be False"),
        ({"bufsize": 4096}, "bufsize must be 0"),
        ({"text": True}, "text must be False"),
        ({"encoding": "utf-8"}, "encoding must be None"),
        ({"errors": "strict"}, "errors must be None"),
    ],
)
def test_keywords_that_make_text_are_refused(loop, keywords, words):
    async def main():
        with pytest.raises(ValueError, match=words):
            await loop.subprocess_exec(Recorder, "true", **keywords)
        with pytest.raises(ValueError, match=words):
            await loop.subprocess_shell(Recorder, "true", **keywords)

    loop.run_until_complete(main())


def test_the_shell_cannot_be_chosen_by_keyword(loop):
    async def main():
        with pytest.raises(ValueError, match="shell must be False"):
            await loop.subprocess_exec(Recorder, "true", shell=True)
        with pytest.raises(ValueError, match="shell must be True"):
            await loop.subprocess_shell(Recorder, "true", shell=False)
        with pytest.raises(ValueError, match="cmd must be a string"):
            await loop.subprocess_shell(Recorder, ["true"])
        with pytest.raises(TypeError):
            await loop.subprocess_exec(Recorder)

    loop.run_until_complete(main())


@pytest.mark.parametrize("keywords", [{"shell": None}, {"universal_newlines": None}, {"text": None}, {"bufsize": 0}])
def test_keywords_that_change_nothing_are_taken(loop, keywords):
    async def main():
        transport, protocol = await loop.subprocess_exec(Recorder, "true", **keywords)
        await within(protocol.lost)
        transport.close()

    loop.run_until_complete(main())


TELL_ALL = """
import os, sys
print(os.environ["WORD"], os.getcwd(), os.read(int(sys.argv[1]), 10).decode(), sep="\\n")
print(os.getpgid(0) == os.getsid(0) == os.getpid(), os.umask(0))
"""


def test_popens_keywords_reach_the_child(loop, tmp_path):
    async def main():
        process = await asyncio.create_subprocess_exec(
            PYTHON,
            "-c",
            TELL_ALL,
            str(kept),
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env={**os.environ, "WORD": "from the environment"},
            pass_fds=[kept],
            start_new_session=True,
            umask=0o027,
        )
        output, _ = await within(process.communicate())
        expected = ["from the environment", os.path.realpath(tmp_path), "passed", f"True {0o027}", ""]
        assert output.decode().split("\n") == expected

    kept, writer = os.pipe()
    os.write(writer, b"passed")
    os.close(writer)
    loop.run_until_complete(main())
    os.close(kept)


def test_an_executable_of_another_name_and_bytes_and_paths_are_arguments(loop, tmp_path):
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/sh\necho $1\n")
    script.chmod(0o755)

    async def main():
        for arguments, keywords in (((script, b"bytes"), {}), (("another name", "text"), {"executable": script})):
            process = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE, **keywords)
            output, _ = await within(process.communicate())
            assert output in (b"bytes\n", b"text\n")

    loop.run_until_complete(main())


def test_a_program_that_does_not_exist_is_an_error(loop):
    async def main():
        with pytest.raises(FileNotFoundError) as caught:
            await asyncio.create_subprocess_exec("/no/such/program")
        assert caught.value.filename == "/no/such/program"
        with pytest.raises(PermissionError):
            await asyncio.create_subprocess_exec("/")

    loop.run_until_complete(main())


def test_streams_can_be_files_devnull_and_each_other(loop, tmp_path):
    async def main():
        with open(tmp_path / "out", "wb") as file:
            process = await asyncio.create_subprocess_shell(
                "cat; echo to stderr >&2", stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )
            assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
            assert await within(process.wait()) == 0
        assert (tmp_path / "out").read_bytes() == b"to stderr\n"
        process = await asyncio.create_subprocess_shell(
            "echo one; echo two >&2", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert await within(process.communicate()) == (b"one\ntwo\n", None)

    loop.run_until_complete(main())


def test_the_child_can_open_its_stdin_and_stdout_again(loop):
    async def main():
        process = await asyncio.create_subprocess_shell(
            "cat < /dev/stdin > /dev/stdout", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert await within(process.communicate(b"through the back door")) == (b"through the back door", None)
        assert process.returncode == 0

    loop.run_until_complete(main())


LIST_DESCRIPTORS = "import os; print(sorted(map(int, os.listdir('/dev/fd'))))"


def test_the_child_inherits_nothing_of_the_loop(new_loop):
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    before = subprocess.run(
        [PYTHON, "-c", LIST_DESCRIPTORS], stdout=subprocess.PIPE, close_fds=False, check=True
    ).stdout

    async def main():
        other = await asyncio.create_subprocess_exec("cat", **streams)
        process = await asyncio.create_subprocess_exec(PYTHON, "-c", LIST_DESCRIPTORS, close_fds=False, **streams)
        assert await within(process.communicate()) == (before, b"")
        other.stdin.close()
        await within(other.wait())

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def test_cancelling_the_start_ends_the_child_first(loop, monkeypatch):
    children = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **keywords):
            super().__init__(*args, **keywords)
            children.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)

    async def main():
        for turns in range(4):
            task = asyncio.ensure_future(loop.subprocess_exec(Recorder, "sleep", "100"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                transport, _ = await within(task)
            except asyncio.CancelledError:
                assert all(child.returncode == -signal.SIGKILL for child in children)
            else:
                transport.close()
                await within(transport._wait())
        assert children
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())


def test_a_factory_that_fails_starts_nothing(loop):
    def factory():
        raise ArithmeticError

    async def main():
        with pytest.raises(ArithmeticError):
            await loop.subprocess_exec(factory, "/no/such/program")

    loop.run_until_complete(main())
