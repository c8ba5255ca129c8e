"""What the loop needs to know of this interpreter's tasks, so that their steps can go without a Handle (`step.rs`)."""

import _asyncio
import asyncio
import threading
import weakref

from ._ferrio import recognise_task_steps


class _Probe:
    """A loop that keeps what is scheduled on it."""

    def __init__(self):
        self.scheduled = []

    def get_debug(self):
        return False

    def call_soon(self, callback, *args, **keywords):
        self.scheduled.append(callback)
        self.names = tuple(keywords)


def introduce(loop_class):
    """Show the steps and wake-ups of `_asyncio.Task` to native code, for loops of this very class."""
    if asyncio._get_running_loop() is None:
        _introduce(loop_class)
    else:
        # Its thread is in the middle of a task, and can be in one only.
        thread = threading.Thread(target=_introduce, args=(loop_class,))
        thread.start()
        thread.join()


def _introduce(loop_class):
    probe = _Probe()
    future = _asyncio.Future(loop=probe)

    async def wait():
        await future

    coroutine = wait()
    name = "a task to look at"
    asyncio._set_running_loop(probe)
    try:
        task = _asyncio.Task(coroutine, loop=probe, name=name)
        (step,) = probe.scheduled
        step()
        ((wakeup, _context),) = future._callbacks
        futures = [_asyncio.Future(loop=probe) for _ in range(3)]
        futures[1].cancel()
        futures[2].set_result(None)
        recognise_task_steps(loop_class, step, wakeup, task, name, coroutine, weakref.ref(task), futures)
    finally:
        asyncio._set_running_loop(None)
    task._log_destroy_pending = False
    coroutine.close()
