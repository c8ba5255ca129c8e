import sys
from asyncio.queues import LifoQueue as LifoQueue
from asyncio.queues import PriorityQueue as PriorityQueue
from asyncio.queues import Queue as Queue
from asyncio.queues import QueueEmpty as QueueEmpty
from asyncio.queues import QueueFull as QueueFull

if sys.version_info >= (3, 13):
    from asyncio.queues import QueueShutDown as QueueShutDown
else:
    class QueueShutDown(Exception): ...

__all__ = ["LifoQueue", "PriorityQueue", "Queue", "QueueEmpty", "QueueFull", "QueueShutDown"]
