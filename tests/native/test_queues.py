"""asyncio's queues: what programs do with them beside put and get."""

import asyncio
import collections
import copy
import gc
import heapq
import inspect
import math
import pickle
import weakref

import ferrio
import pytest

KINDS = ["Queue", "LifoQueue", "PriorityQueue"]


@pytest.fixture(params=KINDS)
def kind(request, namespace):
    return getattr(namespace, request.param)


async def blocked(*coroutines):
    """Tasks that have got as far as they can."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


# --- what kind of thing it is ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_ferrios_queue_is_one_of_asyncios_and_asyncios_counts_as_one_of_ferrios(name):
    ours, theirs = getattr(ferrio, name), getattr(asyncio, name)
    assert isinstance(ours(), theirs) and isinstance(ours(), asyncio.Queue)
    assert isinstance(theirs(), ours) and issubclass(theirs, ours)
    assert issubclass(type("Users", (theirs,), {}), ours)
    assert not isinstance(object(), ours)


def test_the_kinds_are_told_apart():
    assert issubclass(ferrio.LifoQueue, ferrio.Queue)
    assert not isinstance(ferrio.Queue(), ferrio.LifoQueue)
    assert not isinstance(asyncio.LifoQueue(), ferrio.PriorityQueue)


def test_put_get_and_join_are_coroutine_functions(kind):
    assert all(inspect.iscoroutinefunction(getattr(kind, name)) for name in ("put", "get", "join"))


def test_a_queue_can_be_named_in_annotations(kind):
    assert kind[int].__origin__ is kind


def test_it_says_what_asyncios_says(kind, run):
    async def main():
        queue = kind(2)
        assert str(queue) == f"<{kind.__name__} maxsize=2>"
        waiting = await blocked(queue.get())
        assert repr(queue) == f"<{kind.__name__} at {id(queue):#x} maxsize=2 _getters[1]>"
        waiting += await blocked(*(queue.put(1) for _ in range(4)))
        assert str(queue) == f"<{kind.__name__} maxsize=2 _queue=[1, 1] _putters[1] tasks=3>"
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)

    run(main())


def test_copies_and_pickles_hold_the_same_items(kind):
    queue = kind(3)
    queue.put_nowait(1)
    queue.put_nowait(2)
    queue.name = "a user's attribute"
    for twin in (pickle.loads(pickle.dumps(queue)), copy.deepcopy(queue), copy.copy(queue)):
        assert type(twin) is kind
        assert (str(twin), twin.name) == (str(queue), queue.name)
        assert {twin.get_nowait(), twin.get_nowait()} == {1, 2}
        if twin._queue is queue._queue:  # a shallow copy
            queue.put_nowait(1)


def test_a_queue_that_holds_itself_is_collected(kind):
    queue = kind()
    queue.put_nowait(queue)
    gone = weakref.ref(queue)
    del queue
    gc.collect()
    assert gone() is None


def test_wrong_arguments_are_type_errors(kind):
    for call in (lambda: kind(1, 2), lambda: kind(size=1), lambda: kind().put_nowait(), lambda: kind().get_nowait(1)):
        with pytest.raises(TypeError):
            call()


# --- sizes -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maxsize", [0, -1, math.inf, math.nan, 10**30])
def test_a_queue_without_bounds_is_never_full(kind, maxsize):
    queue = kind(maxsize)
    for _ in range(100):
        queue.put_nowait(0)
    assert not queue.full()
    assert queue.maxsize is maxsize or queue.maxsize == maxsize


@pytest.mark.parametrize("maxsize", [2, 1.5, True + 1])
def test_a_full_queue_refuses(namespace, kind, maxsize):
    queue = kind(maxsize)
    queue.put_nowait(0)
    assert not queue.full()
    queue.put_nowait(0)
    assert queue.full() and queue.qsize() == 2
    with pytest.raises(namespace.QueueFull):
        queue.put_nowait(0)


def test_the_size_may_be_changed(kind, namespace, run):
    async def main():
        queue = kind(maxsize=1)
        await queue.put(1)
        queue._maxsize = 2
        await queue.put(2)
        with pytest.raises(namespace.QueueFull):
            queue.put_nowait(3)

    run(main())


def test_an_empty_queue_has_nothing_to_give(kind, namespace):
    with pytest.raises(namespace.QueueEmpty):
        kind().get_nowait()
    with pytest.raises(ValueError, match="too many times"):
        kind().task_done()


# --- privates that programs use ------------------------------------------------------------------------------------------------------


def test_what_a_program_does_to_the_items_is_seen(namespace):
    queue = namespace.Queue()
    for number in range(4):
        queue.put_nowait(number)
    assert list(queue._queue) == [0, 1, 2, 3]
    queue._queue.appendleft("first")
    queue._queue.remove(2)
    assert [queue.get_nowait() for _ in range(3)] == ["first", 0, 1]
    queue._queue.clear()
    assert queue.empty() and queue.qsize() == 0
    queue._queue = collections.deque([7], maxlen=1)
    queue.put_nowait(8)
    assert [queue.get_nowait()] == [8]
    queue._queue = [1, 2]  # which has no popleft()
    assert queue.qsize() == 2
    with pytest.raises(AttributeError):
        queue.get_nowait()


def test_what_a_program_does_to_stacks_and_heaps_is_seen(namespace):
    stack, heap = namespace.LifoQueue(), namespace.PriorityQueue()
    stack._queue += [1, 2]
    heap._queue[:] = [3, 2, 1]
    heapq.heapify(heap._queue)
    assert (stack.get_nowait(), heap.get_nowait(), stack.qsize(), heap.qsize()) == (2, 1, 1, 2)


def test_those_who_wait_can_be_counted(kind, run):
    async def main():
        queue = kind(1)
        waiting = await blocked(queue.get(), queue.get())
        assert (len(queue._getters), len(queue._putters)) == (2, 0)
        await blocked(queue.put(1), queue.put(2))
        await asyncio.gather(*waiting)
        waiting = await blocked(queue.put(1), queue.put(2))
        assert (len(queue._getters), len(queue._putters)) == (0, 1)
        queue.get_nowait()
        await asyncio.gather(*waiting)

    run(main())


def test_a_subclass_can_put_things_where_it_likes(namespace, run):
    class Deque(namespace.Queue):
        def put_left(self, item):
            self._queue.appendleft(item)
            self._unfinished_tasks += 1
            self._finished.clear()
            self._wakeup_next(self._getters)

    async def main():
        queue = Deque()
        (getting,) = await blocked(queue.get())
        queue.put_left(1)
        assert await getting == 1
        queue.put_nowait(2)
        queue.put_left(3)
        assert (await queue.get(), await queue.get()) == (3, 2)
        (joining,) = await blocked(queue.join())
        assert not joining.done()
        for _ in range(3):
            queue.task_done()
        await joining

    run(main())


def test_join_waits_until_every_item_is_worked_off(kind, run):
    async def main():
        queue = kind()
        await queue.join()
        queue.put_nowait(1)
        (joining,) = await blocked(queue.join())
        queue.put_nowait(2)
        queue.task_done()
        await asyncio.sleep(0)
        assert not joining.done()
        queue.task_done()
        await joining
        with pytest.raises(ValueError, match="too many times"):
            queue.task_done()

    run(main())


# --- subclasses ---------------------------------------------------------------------------------------------------------------------------


def traced(base, *names):
    """A subclass whose own versions of these methods say that they were called, and do what they did."""
    calls = []

    def own(name):
        def method(self, *arguments):
            calls.append(name)
            return getattr(super(Traced, self), name)(*arguments)

        return method

    Traced = type("Traced", (base,), {name: own(name) for name in names})
    return Traced, calls


@pytest.mark.parametrize(
    "names",
    [
        ["_init", "_put", "_get"],
        ["qsize", "empty", "full"],
        ["put_nowait", "get_nowait"],
        ["_wakeup_next"],
        ["_init", "_put", "_get", "qsize", "empty", "full", "put_nowait", "get_nowait", "_wakeup_next", "_format"],
    ],
    ids=lambda names: "+".join(names[:3]),
)
@pytest.mark.parametrize("name", KINDS)
def test_a_subclasss_own_methods_are_called_when_asyncio_would_call_them(name, names, run):
    records = []
    for module in (asyncio, ferrio):
        Traced, calls = traced(getattr(module, name), *names)

        async def main(Traced=Traced, calls=calls):
            queue = Traced(2)
            (getting,) = await blocked(queue.get())
            await queue.put(1)
            await getting
            await queue.put(1)
            queue.put_nowait(2)
            putting, other = await blocked(queue.put(3), queue.put(4))
            other.cancel()
            repr(queue)
            await queue.get()
            await putting
            queue.get_nowait()
            return calls

        records.append(run(main()))
    assert records[0] == records[1] != []


def test_a_mixin_counts_as_much_as_the_class_itself(namespace):
    class Loud:
        def _put(self, item):
            super()._put(f"{item}!")

    class LoudQueue(Loud, namespace.Queue):
        pass

    class LouderQueue(LoudQueue):
        pass

    for queue in (LoudQueue(), LouderQueue()):
        queue.put_nowait("a")
        assert queue.get_nowait() == "a!"


def test_a_base_classs_method_can_be_called_by_name(namespace, run):
    class Doubling(namespace.Queue):
        def __init__(self):
            namespace.Queue.__init__(self, maxsize=4)

        def _put(self, item):
            namespace.Queue._put(self, item)
            namespace.Queue._put(self, item)

        async def get(self):
            return await namespace.Queue.get(self), await super().get()

    async def main():
        queue = Doubling()
        await queue.put(1)
        assert queue.qsize() == 2
        assert await queue.get() == (1, 1)

    run(main())


def test_a_subclass_that_needs_no_storage_at_all(namespace, run):
    class Counter(namespace.Queue):
        def _init(self, maxsize):
            self.number = 0

        def _put(self, item):
            self.number += item

        def _get(self):
            self.number -= 1
            return self.number

        def qsize(self):
            return self.number

        def empty(self):
            return self.number == 0

    async def main():
        queue = Counter(5)
        await queue.put(5)
        assert queue.full()
        (putting,) = await blocked(queue.put(1))
        assert await queue.get() == 4
        await putting
        assert queue.number == 5
        assert not hasattr(queue, "_queue")

    run(main())


def test_items_that_cannot_be_compared_leave_the_same_behind(namespace):
    queue = namespace.PriorityQueue()
    queue.put_nowait(1)
    with pytest.raises(TypeError):
        queue.put_nowait("one")
    assert (queue.qsize(), queue._unfinished_tasks) == (2, 1)


# --- waiting ------------------------------------------------------------------------------------------------------------------------------


def test_what_was_waited_for_is_let_go_at_once(kind, run):
    async def main():
        queue = kind()
        tasks = await blocked(queue.get(), queue.get())
        gone = [weakref.ref(getter) for getter in queue._getters]
        queue.put_nowait(1)
        queue.put_nowait(2)
        await asyncio.wait(tasks)
        assert [getter() for getter in gone] == [None, None]

    run(main())


# --- cancellation and the like ------------------------------------------------------------------------------------------------------


def test_a_getter_cancelled_when_an_item_has_come_leaves_it_to_the_next(kind, run):
    async def main():
        queue = kind()
        first, second = await blocked(queue.get(), queue.get())
        queue.put_nowait(1)
        first.cancel()
        assert await second == 1
        assert first.cancelled() or (await asyncio.wait([first]), first.cancelled())[1]

    run(main())


def test_a_putter_cancelled_when_there_is_room_leaves_it_to_the_next(kind, run):
    async def main():
        queue = kind(1)
        queue.put_nowait(0)
        first, second = await blocked(queue.put(1), queue.put(2))
        queue.get_nowait()
        first.cancel()
        await second
        assert queue.get_nowait() == 2

    run(main())


def test_a_getter_that_is_closed_waits_no_more(kind, run):
    async def main():
        queue = kind()
        getting = queue.get()
        getting.send(None)
        assert len(queue._getters) == 1
        getting.close()
        assert len(queue._getters) == 0

    run(main())


def test_a_getter_that_is_closed_after_an_item_has_come_wakes_the_next(kind, run):
    async def main():
        queue = kind()
        getting = queue.get()
        getting.send(None)
        (other,) = await blocked(queue.get())
        queue.put_nowait(1)
        getting.close()
        assert await other == 1

    run(main())


def test_a_queue_belongs_to_the_loop_on_which_somebody_waited(kind, run):
    queue = kind()

    async def wait():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(queue.get(), 0.001)

    async def fail():
        queue.put_nowait(1)
        assert await queue.get() == 1
        with pytest.raises(RuntimeError, match=r"is bound to a different event loop$"):
            await queue.get()

    run(wait())
    run(fail())


@pytest.mark.parametrize("name", KINDS)
def test_shutdown_on_every_version(name, run):
    """(asyncio has it since 3.13; the random programs compare it there.)"""

    async def main():
        queue = getattr(ferrio, name)(1)
        await queue.put(1)
        (putting,) = await blocked(queue.put(2))
        queue.shutdown()
        with pytest.raises(ferrio.QueueShutDown):
            await putting
        with pytest.raises(ferrio.QueueShutDown):
            await queue.put(3)
        with pytest.raises(ferrio.QueueShutDown):
            queue.put_nowait(3)
        assert "shutdown" in str(queue)
        assert await queue.get() == 1
        with pytest.raises(ferrio.QueueShutDown):
            await queue.get()
        with pytest.raises(ferrio.QueueShutDown):
            queue.get_nowait()
        queue.task_done()
        await queue.join()

    run(main())


@pytest.mark.parametrize("name", KINDS)
def test_immediate_shutdown_drops_what_is_left(name, run):
    async def main():
        Users = type("Users", (getattr(ferrio, name),), {"_put": lambda self, item: self._queue.append(item)})
        for queue in (getattr(ferrio, name)(), Users()):
            getters = await blocked(queue.get(), queue.get())
            queue.put_nowait(1)
            assert await getters[0] == 1
            queue.put_nowait(2)
            assert await getters[1] == 2
            queue.put_nowait(3)
            (joining,) = await blocked(queue.join())
            queue.shutdown(immediate=True)
            assert queue.empty() and queue._unfinished_tasks == 2
            queue.task_done()
            queue.task_done()
            await joining
            with pytest.raises(ferrio.QueueShutDown):
                queue.get_nowait()

    run(main())
