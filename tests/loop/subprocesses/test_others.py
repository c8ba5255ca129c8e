"""Who else looks at children: the user's own SIGCHLD handler, whoever takes a status first, and loops in other threads."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import warnings

import ferrio

from .support import within


def test_sigchld_belongs_to_the_user(loop):
    seen = []
    former = signal.signal(signal.SIGCHLD, lambda number, frame: seen.append(number))
    try:

        async def main():
            process = await asyncio.create_subprocess_exec("sleep", "0.05")
            assert await within(process.wait()) == 0
            await asyncio.sleep(0.01)

        loop.run_until_complete(main())
    finally:
        signal.signal(signal.SIGCHLD, former)
    assert seen and set(seen) == {signal.SIGCHLD}


def test_a_status_that_somebody_else_took_is_reported_as_255(loop, caplog):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE)
        # The loop does not turn between the end and the taking.
        os.close(process._transport.get_extra_info("subprocess").stdin.fileno())
        os.waitpid(process.pid, 0)
        assert await within(process.wait()) == 255
        assert "255" in caplog.text

    # On the stock loop of 3.11 a thread waits, and may win.
    if sys.version_info >= (3, 12) or isinstance(loop, ferrio.EventLoop):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            loop.run_until_complete(main())
            loop.run_until_complete(asyncio.sleep(0.01))


# The stock loop does not know what its own Popen object found out, and says 255.
def test_asking_the_popen_object_does_not_hide_the_status():
    async def main():
        process = await asyncio.create_subprocess_shell("exit 7")
        child = process._transport.get_extra_info("subprocess")
        while child.poll() is None:
            time.sleep(0.001)
        assert await within(process.wait()) == 7

    ferrio.run(main())


def test_children_of_a_loop_in_another_thread(new_loop):
    import threading

    results = []

    def other_thread():
        async def main():
            process = await asyncio.create_subprocess_shell(
                "cat; exit 3", stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            results.append((await within(process.communicate(b"hello")), process.returncode))

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join(20)
    assert results == [((b"hello", None), 3)]
