from asyncio.taskgroups import TaskGroup as TaskGroup

__all__ = ["TaskGroup"]
