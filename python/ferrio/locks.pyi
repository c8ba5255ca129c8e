from asyncio.locks import BoundedSemaphore as BoundedSemaphore
from asyncio.locks import Event as Event
from asyncio.locks import Lock as Lock
from asyncio.locks import Semaphore as Semaphore

__all__ = ["BoundedSemaphore", "Event", "Lock", "Semaphore"]
