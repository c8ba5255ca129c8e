from asyncio.tasks import *

__all__ = ["create_task", "ensure_future", "gather", "wait_for"]
