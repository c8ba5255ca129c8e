"""asyncio's functions that make tasks and wait for them, native. What they do is in ``crates/ferrio-python/src/tasks``."""

import asyncio.tasks
import sys

# What is not ferrio's own here is asyncio's.
from asyncio.tasks import *

from ._ferrio import _begun_timeout, create_task, ensure_future, gather

__all__ = ["create_task", "ensure_future", "gather", "wait_for"]

_wait_for = asyncio.tasks.wait_for


async def wait_for(fut, timeout):
    """Wait for a future or coroutine, but no longer than ``timeout`` seconds; None stands for no limit.

    Returns its result. When the time is over, or the wait is cancelled, it is cancelled (put it into ``shield()`` to
    prevent that), and TimeoutError is raised.
    """
    limit = _begun_timeout(timeout)
    if limit is None:
        return await _wait_for(fut, timeout)
    try:
        result = await fut
    except BaseException as error:
        await limit.__aexit__(type(error), error, error.__traceback__)
        raise
    if not limit._leave():
        # It has struck, and its task made nothing of it.
        await limit.__aexit__(None, None, None)
    return result


if sys.version_info < (3, 12):
    # Which runs it as a task of its own.
    wait_for = _wait_for
