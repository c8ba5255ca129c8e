"""asyncio.create_subprocess_exec and create_subprocess_shell: talking to a child, and waiting for it."""

import asyncio
import os
import subprocess

import pytest
from ferrio import _helpers

from .support import PYTHON, Recorder, within


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_communicate_carries_more_than_a_pipe_holds_both_ways(loop):
    data = os.urandom(1 << 20)

    async def main():
        process = await asyncio.create_subprocess_exec(
            PYTHON,
            "-c",
            "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data); sys.stderr.buffer.write(data[::-1])",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert await within(process.communicate(data)) == (data, data[::-1])
        assert process.returncode == 0

    loop.run_until_complete(main())


def test_lines_can_be_talked_about(loop):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for number in range(100):
            process.stdin.write(b"line %d\n" % number)
            await process.stdin.drain()
            assert await within(process.stdout.readline()) == b"line %d\n" % number
        process.stdin.close()
        await within(process.stdin.wait_closed())
        assert await within(process.wait()) == 0

    loop.run_until_complete(main())


def test_a_writer_to_a_child_that_left_hears_of_it(loop):
    async def main():
        process = await asyncio.create_subprocess_exec("true", stdin=subprocess.PIPE)
        await within(process.wait())
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(10):
                process.stdin.write(b"x" * 65536)
                await process.stdin.drain()
                await asyncio.sleep(0.01)

    loop.run_until_complete(main())


def test_wait_returns_to_everybody_who_waits_and_at_once_afterwards(loop):
    async def main():
        process = await asyncio.create_subprocess_shell("sleep 0.1; exit 7")
        assert await within(asyncio.gather(*(process.wait() for _ in range(5)))) == [7] * 5
        assert await within(process.wait()) == 7
        assert process.returncode == 7

    loop.run_until_complete(main())


def test_wait_returns_when_this_cpythons_does(loop):
    """With the child alone, or only when its pipes are closed too: it changed within 3.12 and 3.13."""

    async def main():
        transport, protocol = await loop.subprocess_shell(Recorder, "sleep 0.1; sleep 0.3 & exit 7")
        assert await within(transport._wait()) == 7
        assert protocol.lost.done() is not _helpers.WAIT_IS_FOR_THE_CHILD_ALONE
        await within(protocol.lost)
        transport.close()

    loop.run_until_complete(main())


def test_a_cancelled_wait_leaves_the_child_alone(loop):
    async def main():
        process = await asyncio.create_subprocess_shell("sleep 0.2; exit 7")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), 0.01)
        assert await within(process.wait()) == 7

    loop.run_until_complete(main())


def test_many_children_at_once(loop):
    async def child(number):
        process = await asyncio.create_subprocess_shell(f"echo {number}; exit {number % 256}", stdout=subprocess.PIPE)
        output, _ = await process.communicate()
        return int(output), process.returncode

    async def main():
        assert await asyncio.gather(*map(child, range(150))) == [(number, number % 256) for number in range(150)]

    loop.run_until_complete(main())


def test_nothing_is_left_of_a_child(loop):
    async def main():
        async def once():
            process = await asyncio.create_subprocess_shell("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            await within(process.communicate(b"x"))
            return process.pid

        await once()
        await asyncio.sleep(0.05)
        before = os.listdir("/dev/fd")
        pids = [await once() for _ in range(20)]
        await asyncio.sleep(0.05)
        assert os.listdir("/dev/fd") == before
        assert not any(map(is_alive, pids))

    loop.run_until_complete(main())
