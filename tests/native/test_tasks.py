"""What brings tasks together, where asyncio's own tests say nothing: see also test_tasks_model.py and tests/conformance."""

import asyncio
import concurrent.futures
import gc
import inspect
import math
import sys
import threading
import weakref
from fractions import Fraction

import ferrio
import pytest
from ferrio.executors import DefaultExecutor

has_cancel = pytest.mark.skipif(sys.version_info < (3, 15), reason="asyncio's TaskGroup has cancel() since 3.15")


@pytest.fixture(params=[pytest.param(asyncio, marks=has_cancel, id="asyncio"), pytest.param(ferrio, id="ferrio")])
def TaskGroup(request):
    return request.param.TaskGroup


# --- TaskGroup.cancel(), on every version ------------------------------------------------------------------------------


def test_a_cancelled_group_ends_its_tasks_and_raises_nothing(TaskGroup, run):
    async def main():
        async with TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(60)) for _ in range(3)]
            await asyncio.sleep(0)
            group.cancel()
        assert all(task.cancelled() for task in tasks)
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)

    run(main())


def test_cancel_ends_what_the_group_itself_awaits(TaskGroup, run):
    async def main():
        async with TaskGroup() as group:
            asyncio.get_running_loop().call_soon(group.cancel)
            await asyncio.sleep(60)
            raise AssertionError
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_a_task_of_the_group_may_cancel_it(TaskGroup, run):
    async def main():
        async with TaskGroup() as group:

            async def ends_all():
                group.cancel()

            others = [group.create_task(asyncio.sleep(60)) for _ in range(2)]
            group.create_task(ends_all())
        assert all(other.cancelled() for other in others)

    run(main())


def test_a_group_that_was_cancelled_before_is_over_at_the_first_await(TaskGroup, run):
    async def main():
        group = TaskGroup()
        group.cancel()
        reached = []
        async with group:
            reached.append("body")
            await asyncio.sleep(0)
            reached.append("too far")
        assert reached == ["body"]

    run(main())


def test_cancel_of_an_outer_group_goes_through_an_inner_one(TaskGroup, run):
    async def main():
        reached = []
        async with TaskGroup() as outer:
            async with TaskGroup() as inner:
                inner.create_task(asyncio.sleep(60))
                asyncio.get_running_loop().call_soon(outer.cancel)
            reached.append("between")
        assert reached == []

    run(main())


def test_errors_of_a_cancelled_group_are_not_lost(TaskGroup, run):
    async def fails():
        try:
            await asyncio.sleep(60)
        finally:
            raise LookupError("while it was cancelled")

    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            async with TaskGroup() as group:
                group.create_task(fails())
                await asyncio.sleep(0)
                group.cancel()
        assert [str(error) for error in caught.value.exceptions] == ["while it was cancelled"]

    run(main())


def test_a_cancellation_from_outside_is_not_swallowed_by_cancel(TaskGroup, run):
    async def inner():
        async with TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            asyncio.get_running_loop().call_soon(group.cancel)
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)

    async def main():
        task = asyncio.create_task(inner())
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


# --- gather ----------------------------------------------------------------------------------------------------------------


def test_what_gather_has_made_may_be_dropped_without_a_word(namespace, run):
    async def forever():
        await asyncio.get_running_loop().create_future()

    async def main():
        loop, said = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda loop, context: said.append(context["message"]))
        gathered, task = namespace.gather(forever(), forever()), asyncio.create_task(forever())
        await asyncio.sleep(0)
        del gathered
        gc.collect()
        assert said == []
        # Nobody has promised to wait for this one either, but it was not gather that made it.
        del task
        gc.collect()
        assert said == ["Task was destroyed but it is pending!"]

    run(main())


def test_gather_takes_futures_of_any_class(namespace, run):
    class Marked(asyncio.Task):
        pass

    async def double(number):
        await asyncio.sleep(0)
        return 2 * number

    async def main():
        loop = asyncio.get_running_loop()
        pure = asyncio.futures._PyFuture(loop=loop)
        loop.call_soon(pure.set_result, 8)
        factory, before = (lambda loop, coro, **options: Marked(coro, loop=loop, **options)), loop.get_task_factory()
        loop.set_task_factory(factory)
        gathered = namespace.gather(double(1), Marked(double(2), loop=loop), asyncio.tasks._PyTask(double(3)), pure)
        loop.set_task_factory(before)
        assert await gathered == [2, 4, 6, 8]

    run(main())


def test_what_fails_while_gather_hears_of_a_child_is_told_to_the_exception_handler(namespace, run):
    """With the callback's handle, although the loop calls ferrio's own without one."""

    class Strange(asyncio.Future):
        def exception(self):
            raise LookupError("no exception to be had")

    told = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(context))
        child = Strange()
        loop.call_soon(child.set_result, None)
        together = namespace.gather(child, asyncio.sleep(0))
        for _ in range(5):
            await asyncio.sleep(0)
        together.cancel()

    run(main())
    context = told[0]
    assert set(context) == {"message", "exception", "handle"}
    assert isinstance(context["exception"], LookupError)
    assert isinstance(context["handle"], asyncio.Handle)
    assert "_done_callback" in context["message"]


def test_a_waiting_callback_of_gather_shows_as_a_handle_of_its_future(run):
    async def main():
        child = asyncio.get_running_loop().create_future()
        together = ferrio.gather(child)
        child.set_result(7)
        ready = [handle for handle in asyncio.get_running_loop()._ready if "_done_callback" in repr(handle)]
        assert len(ready) == 1 and ready[0]._args == (child,)
        assert await together == [7]

    run(main())


# --- wait, as_completed, shield ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [[], (), set(), [1], 3, "text", None], ids=repr)
def test_wait_refuses_what_asyncio_refuses(run, bad):
    async def refusal(wait):
        try:
            await wait(bad)
        except Exception as error:
            return type(error), error.args

    async def main():
        assert await refusal(ferrio.wait) == await refusal(asyncio.wait) != None  # noqa: E711

    run(main())


def test_wait_refuses_coroutines_and_strange_conditions(namespace, run):
    async def main():
        future = asyncio.get_running_loop().create_future()
        coroutine = asyncio.sleep(0)
        with pytest.raises(TypeError, match="coroutines is forbidden"):
            await namespace.wait([coroutine])
        coroutine.close()
        with pytest.raises(ValueError, match="Invalid return_when value: sometime"):
            await namespace.wait([future], return_when="sometime")
        with pytest.raises(TypeError, match="expect a list of futures, not"):
            await namespace.wait(future)

    run(main())


def test_wait_takes_any_iterable_once(namespace, run):
    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(3)]
        for given in (
            iter(tasks),
            map(asyncio.ensure_future, tasks),
            dict.fromkeys(tasks),
            frozenset(tasks),
            tasks + tasks,
        ):
            assert await namespace.wait(given) == (set(tasks), set())

    run(main())


def test_wait_works_with_futures_written_in_python(namespace, run):
    async def main():
        future = asyncio.futures._PyFuture()
        future.get_loop().call_soon(future.set_result, None)
        assert await namespace.wait([future, asyncio.create_task(asyncio.sleep(0))], timeout=60) is not None
        assert future.done()

    run(main())


def test_wait_leaves_no_callback_behind(namespace, run):
    async def main():
        future = asyncio.get_running_loop().create_future()
        assert await namespace.wait([future], timeout=0.001) == (set(), {future})
        assert not future._callbacks
        task = asyncio.create_task(namespace.wait([future], timeout=60))
        await asyncio.sleep(0)
        assert len(future._callbacks) == 1
        task.cancel()
        await asyncio.wait([task])
        assert not future._callbacks

    run(main())


def test_a_set_handed_to_wait_may_change_meanwhile(namespace, run):
    async def main():
        loop = asyncio.get_running_loop()
        first, second = loop.create_future(), loop.create_future()
        given = {first, second}
        loop.call_soon(given.clear)
        loop.call_soon(first.set_result, None)
        loop.call_soon(second.set_result, None)
        assert await namespace.wait(given) == ({first, second}, set())

    run(main())


def test_as_completed_gives_results_in_the_order_in_which_they_come(namespace, run):
    async def after(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    async def main():
        results = [await one for one in namespace.as_completed([after(3), after(1), after(2)])]
        assert results == [1, 2, 3]
        assert list(namespace.as_completed([])) == []
        if sys.version_info >= (3, 13):
            tasks = [asyncio.create_task(after(turns)) for turns in (3, 1, 2)]
            assert [task async for task in namespace.as_completed(tasks)] == [tasks[1], tasks[2], tasks[0]]

    run(main())


def test_as_completed_raises_timeout_errors_for_what_is_late(namespace, run):
    async def main():
        late = asyncio.get_running_loop().create_future()
        found = []
        for one in namespace.as_completed([late, asyncio.sleep(0, "soon")], timeout=0.01):
            try:
                found.append(await one)
            except TimeoutError:
                found.append("late")
        assert found == ["soon", "late"]
        assert not late._callbacks

    run(main())


def test_as_completed_refuses_what_is_no_collection(namespace, run):
    async def main():
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(TypeError, match="not _?Future"):
            next(iter(namespace.as_completed(future)))
        with pytest.raises(TypeError):
            next(iter(namespace.as_completed([1])))
        with pytest.raises(TypeError):
            next(iter(namespace.as_completed(1)))

    run(main())


def test_as_completed_is_the_kind_of_function_that_asyncio_has():
    assert inspect.isgeneratorfunction(ferrio.as_completed) == inspect.isgeneratorfunction(asyncio.as_completed)


def test_what_is_shielded_goes_on_when_the_waiter_is_cancelled(namespace, run):
    async def main():
        inner = asyncio.get_running_loop().create_future()

        async def waits():
            await namespace.shield(inner)

        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() and not inner.done()
        # Some versions have what becomes of it logged, of which the first leave more there than that.
        if hasattr(asyncio.tasks, "_log_on_exception"):
            assert asyncio.tasks._log_on_exception in [callback for callback, _ in inner._callbacks]
        else:
            assert not inner._callbacks
        inner.set_result(1)
        assert namespace.shield(inner) is inner

    run(main())


def test_nothing_of_a_shield_or_a_wait_is_left_when_it_is_over(namespace, run):
    async def main():
        inner = asyncio.get_running_loop().create_future()
        outer = namespace.shield(inner)
        gone = weakref.ref(outer)
        outer.cancel()
        await asyncio.sleep(0)
        del outer
        gc.collect()
        assert gone() is None
        inner.set_result(None)
        await namespace.wait([inner])
        gone = weakref.ref(inner)
        del inner
        gc.collect()
        assert gone() is None

    run(main())


# --- sleep ---------------------------------------------------------------------------------------------------------------


def test_sleep_is_a_coroutine_function_and_returns_what_it_is_given(namespace, run):
    assert inspect.iscoroutinefunction(namespace.sleep)

    async def main():
        for delay in (0, -1, 0.001, Fraction(1, 1000), True):
            assert await namespace.sleep(delay * 0.01, "result") == "result"
        assert await namespace.sleep(0) is None
        assert await namespace.sleep(delay=0.001, result=(1,)) == (1,)

    run(main())


def test_sleep_of_nothing_lasts_one_turn(namespace, run):
    async def main():
        turns = []

        async def count():
            for number in range(3):
                turns.append(number)
                await namespace.sleep(0)

        others = [asyncio.create_task(count()) for _ in range(2)]
        await asyncio.gather(*others)
        assert turns == [0, 0, 1, 1, 2, 2]

    run(main())


@pytest.mark.parametrize("bad", ["1", None, object(), 1j])
def test_sleep_refuses_what_is_no_number(namespace, run, bad):
    async def main():
        with pytest.raises(TypeError):
            await namespace.sleep(bad)

    run(main())


def test_sleep_refuses_nan_as_asyncio_does(run):
    async def main():
        outcomes = []
        for namespace in (asyncio, ferrio):
            try:
                await asyncio.wait_for(namespace.sleep(math.nan), 0.01)
            except (ValueError, TimeoutError) as error:
                outcomes.append((type(error), error.args))
        assert len(outcomes) == 2 and outcomes[0] == outcomes[1]

    run(main())


@pytest.mark.parametrize("delay", [0, 3600])
def test_a_cancelled_sleep_ends_at_once_with_the_message(namespace, run, delay):
    async def main():
        task = asyncio.create_task(namespace.sleep(delay))
        await asyncio.sleep(0)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == ("why",)

    run(main())


def test_a_cancelled_sleep_leaves_nothing_behind(namespace, run):
    async def cancelled():
        task = asyncio.create_task(namespace.sleep(3600))
        await asyncio.sleep(0)
        future = weakref.ref(task._fut_waiter)
        task.cancel()
        await asyncio.wait([task])
        return future

    async def main():
        future = await cancelled()
        await asyncio.sleep(0)
        gc.collect()
        assert future() is None

    run(main())


def test_a_sleep_that_is_closed_or_thrown_into_ends(namespace, run):
    async def main():
        for end in (lambda sleep: sleep.close(), lambda sleep: pytest.raises(KeyError, sleep.throw, KeyError())):
            for delay in (0, 3600):
                sleep = namespace.sleep(delay)
                sleep.send(None)
                end(sleep)
                with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                    sleep.send(None)

    run(main())


# --- executors -----------------------------------------------------------------------------------------------------------


def test_what_a_thread_raises_is_raised_by_the_await(run):
    error = LookupError("from a thread")

    def fails():
        raise error

    async def main():
        nonlocal error
        with pytest.raises(LookupError) as caught:
            await asyncio.get_running_loop().run_in_executor(None, fails)
        assert caught.value is error
        for theirs, ours in [
            (concurrent.futures.CancelledError("why"), asyncio.CancelledError),
            (concurrent.futures.InvalidStateError("why"), asyncio.InvalidStateError),
            (concurrent.futures.TimeoutError("why"), TimeoutError),
        ]:
            error = theirs
            with pytest.raises(ours):
                await asyncio.get_running_loop().run_in_executor(None, fails)

    run(main())


@pytest.fixture(params=[concurrent.futures.ThreadPoolExecutor, DefaultExecutor])
def executor(request):
    """With one thread."""
    with request.param(1) as executor:
        yield executor


def test_cancelling_the_future_keeps_a_job_from_beginning(run, executor):
    async def main():
        loop = asyncio.get_running_loop()
        go_on = threading.Event()
        first = loop.run_in_executor(executor, go_on.wait, 10)
        ran = []
        second = loop.run_in_executor(executor, ran.append, 1)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await asyncio.sleep(0)  # The executor's future hears of it in the next turn.
        go_on.set()
        assert await first
        await loop.run_in_executor(executor, int)
        assert ran == []

    run(main())


def test_a_job_that_ends_after_its_loop_says_nothing(executor, capfd):
    go_on, ended = threading.Event(), threading.Event()

    def job():
        go_on.wait(10)
        ended.set()

    loop = ferrio.new_event_loop()

    async def main():
        loop.run_in_executor(executor, job)

    loop.run_until_complete(main())
    loop.close()
    go_on.set()
    assert ended.wait(10)
    executor.shutdown()
    assert capfd.readouterr() == ("", "")


def test_an_executor_that_is_shut_down_cancels_what_waits_and_takes_no_more(run, executor):
    async def main():
        loop = asyncio.get_running_loop()
        begun, go_on = threading.Event(), threading.Event()
        first = loop.run_in_executor(executor, lambda: (begun.set(), go_on.wait(10)))
        begun.wait(10)
        waiting = [loop.run_in_executor(executor, int) for _ in range(3)]
        executor.shutdown(wait=False, cancel_futures=True)
        go_on.set()
        await first
        await asyncio.wait(waiting)
        assert all(future.cancelled() for future in waiting)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            loop.run_in_executor(executor, int)

    run(main())


def test_jobs_of_the_default_executor_run_at_the_same_time_and_more_than_there_are_threads():
    async def main():
        loop = asyncio.get_running_loop()
        executor = DefaultExecutor(4)
        loop.set_default_executor(executor)
        barrier = threading.Barrier(4)
        await asyncio.gather(*[loop.run_in_executor(None, barrier.wait, 10) for _ in range(4)])
        numbers = await asyncio.gather(*[loop.run_in_executor(None, abs, -number) for number in range(1000)])
        assert numbers == list(range(1000))
        assert executor.submit(divmod, 7, 2).result(10) == (3, 1)
        assert len(executor._threads) == 4

    ferrio.run(main())


def test_a_job_keeps_nothing_alive_once_it_is_over():
    class Argument:
        pass

    async def main():
        argument = Argument()
        gone = weakref.ref(argument)
        future = asyncio.get_running_loop().run_in_executor(None, id, argument)
        await future
        del argument
        # The thread drops it just after.
        for _ in range(1000):
            if gone() is None:
                break
            await asyncio.sleep(0.01)
        assert gone() is None

    ferrio.run(main())


def test_a_future_that_somebody_else_has_ended_is_told_to_the_exception_handler(run, executor):
    async def main():
        loop = asyncio.get_running_loop()
        told = loop.create_future()
        loop.set_exception_handler(lambda loop, context: told.set_result(context["exception"]))
        go_on = threading.Event()
        loop.run_in_executor(executor, go_on.wait, 10).set_result("too soon")
        go_on.set()
        assert isinstance(await told, AssertionError)

    run(main())


def test_an_executor_may_be_of_any_kind(run):
    class AtOnce(concurrent.futures.Executor):
        def submit(self, function, *args):
            future = concurrent.futures.Future()
            future.set_result(function(*args))
            return future

    class OfTheLoop:
        def submit(self, function, *args):
            future = asyncio.get_running_loop().create_future()
            future.set_result(function(*args))
            return future

    async def main():
        for executor in (AtOnce(), OfTheLoop()):
            assert await asyncio.get_running_loop().run_in_executor(executor, divmod, 7, 2) == (3, 1)

    run(main())
