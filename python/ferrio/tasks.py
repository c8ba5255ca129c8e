"""asyncio's functions that make tasks and wait for them, native. What they do is in ``crates/ferrio-python/src/tasks``."""

# What is not ferrio's own here is asyncio's.
from asyncio.tasks import *

from ._ferrio import create_task, ensure_future, gather

__all__ = ["create_task", "ensure_future", "gather"]
