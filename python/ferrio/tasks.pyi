from asyncio.tasks import *

__all__ = ["as_completed", "create_task", "ensure_future", "gather", "shield", "sleep", "wait", "wait_for"]
