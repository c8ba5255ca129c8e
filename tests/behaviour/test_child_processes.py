"""Child processes: their exit, their output, and what they inherit."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from .support import collect, open_descriptors, turns, until, within


def test_exit_statuses_and_signals_are_told(loop, run):
    async def main():
        for code, expected in (
            ("", 0),
            ("raise SystemExit(7)", 7),
            ("import os; os.kill(os.getpid(), 9)", -9),
            ("import os; os.abort()", -signal.SIGABRT),
        ):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            assert await within(process.wait(), 10) == expected
            assert process.returncode == expected

    run(main())


def test_communicate_carries_much_both_ways(loop, run):
    data = os.urandom(3 << 20)

    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import sys; d = sys.stdin.buffer.read(); sys.stderr.write(str(len(d))); sys.stdout.buffer.write(d)",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await within(process.communicate(data), 15)
        assert out == data
        assert err == str(len(data)).encode()

    run(main())


def test_many_children_at_once_are_all_waited_for(loop, run):
    async def one(n):
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", f"echo {n}; exit {n}", stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        assert (int(out), process.returncode) == (n, n)
        return process.pid

    async def main():
        return await within(asyncio.gather(*(one(n) for n in range(60))), 25)

    for child in run(main()):
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)  # No zombie is left.


def test_a_child_may_open_its_stdin_again(loop, run):
    async def main():
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", "cat /dev/stdin", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await within(process.communicate(b"through /dev/stdin"))
        assert (out, err) == (b"through /dev/stdin", b"")

    run(main())


def test_a_child_may_open_its_stdout_and_stderr_again(loop, run):
    async def main():
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            "echo out > /dev/stdout; echo err > /dev/stderr",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert await within(process.communicate()) == (b"out\n", b"err\n")

    run(main())


def test_a_child_inherits_nothing_but_its_standard_descriptors(loop, run):
    source = "import os; print(sorted(os.listdir('/proc/self/fd'), key=int))"

    async def main():
        first = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for close_fds in (True, False):
            second = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                source,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                close_fds=close_fds,
            )
            out, _ = await within(second.communicate())
            # What a child gets that this loop had nothing to do with: three, the directory being listed, what pytest left open.
            expected = subprocess.run(
                [sys.executable, "-c", source], stdin=subprocess.PIPE, capture_output=True, close_fds=close_fds
            ).stdout
            assert out == expected, f"close_fds={close_fds}"
        # No other child holds the first one's stdin open.
        third = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        first.stdin.close()
        assert await within(first.stdout.read()) == b""
        assert await within(first.wait()) == 0
        third.kill()
        assert await within(third.wait()) == -signal.SIGKILL

    run(main())


def test_the_end_of_a_process_comes_after_its_output(loop, run):
    events = []

    class Protocol(asyncio.SubprocessProtocol):
        def pipe_data_received(self, fd, data):
            events.append(("data", fd, bytes(data)))

        def pipe_connection_lost(self, fd, exc):
            events.append(("lost", fd))

        def process_exited(self):
            events.append(("exited",))

        def connection_lost(self, exc):
            events.append(("connection_lost", exc))

    async def main():
        transport, _ = await loop.subprocess_exec(
            Protocol, "/bin/sh", "-c", "echo out; echo err >&2; exit 4", stdin=None
        )
        await until(lambda: events and events[-1][0] == "connection_lost")
        assert transport.get_returncode() == 4
        assert transport.get_pid() > 0
        transport.close()

    run(main())
    assert ("data", 1, b"out\n") in events and ("data", 2, b"err\n") in events
    assert {("lost", 1), ("lost", 2), ("exited",)} < set(events)
    assert events[-1] == ("connection_lost", None)
    assert events.index(("data", 1, b"out\n")) < events.index(("lost", 1))


def test_a_program_that_does_not_exist_is_an_error_and_leaks_nothing(loop, run):
    async def main():
        await turns(2)
        before = open_descriptors()
        for _ in range(5):
            with pytest.raises(FileNotFoundError):
                await asyncio.create_subprocess_exec(
                    "/no/such/program", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
        await turns(5)
        collect()
        assert open_descriptors() == before

    run(main())
