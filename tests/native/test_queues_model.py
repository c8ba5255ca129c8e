"""Random programs on asyncio's queues, see playing.py."""

import asyncio

import pytest
from hypothesis import strategies as st

from tests.native.playing import call, compare, programs, start

ITEM = st.integers(0, 9)


def look(queue):
    waiting = [[(waiter.done(), waiter.cancelled()) for waiter in kind] for kind in (queue._getters, queue._putters)]
    return str(queue).partition(" ")[2], queue.qsize(), queue.empty(), queue.full(), queue._finished.is_set(), waiting


moves = [
    start("put", ITEM),
    start("put", ITEM),
    start("get"),
    start("get"),
    start("join"),
    call("put_nowait", ITEM),
    call("get_nowait"),
    call("task_done"),
]
if hasattr(asyncio.Queue, "shutdown"):
    moves.append(call("shutdown", st.booleans()))


def unique(base):
    """A queue that holds every item once: what the documentation suggests subclasses for."""

    class Unique(base):
        def _init(self, maxsize):
            self._queue = {}

        def _put(self, item):
            self._queue[item] = True

        def _get(self):
            return self._queue.popitem()[0]

    return Unique


def dropping(base):
    """A queue that makes room by itself."""

    class Dropping(base):
        def put_nowait(self, item):
            while self.full():
                self.get_nowait()
            return super().put_nowait(item)

        def full(self):
            return super().full() and self._queue[0] != 5

    return Dropping


VARIANTS = {
    "fifo": lambda namespace: namespace.Queue,
    "lifo": lambda namespace: namespace.LifoQueue,
    "priority": lambda namespace: namespace.PriorityQueue,
    "unique": lambda namespace: unique(namespace.Queue),
    "dropping": lambda namespace: dropping(namespace.PriorityQueue),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_queue(variant):
    compare(
        lambda namespace, maxsize: VARIANTS[variant](namespace)(maxsize),
        look,
        program=programs(*moves),
        setting=st.integers(0, 3),
    )()
