"""Random programs on what waits for futures (gather, wait, shield, as_completed, wait_for, TaskGroup), see playing.py."""

import asyncio

from hypothesis import strategies as st

from tests.native.playing import call, compare, programs, start

COUNT = 5
WHICH = st.lists(st.integers(0, COUNT - 1), max_size=6).map(tuple)
ONE = st.integers(0, COUNT - 1)
TURNS = st.integers(0, 3)
ENDS = st.sampled_from(["returns", "fails", "is cancelled", "waits"])
CHILDREN = st.lists(st.tuples(TURNS, ENDS), max_size=4).map(tuple)
UNTIL = st.sampled_from([asyncio.ALL_COMPLETED, asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION])


class Stage:
    """A few futures that a program ends one by one, and every way to wait for them."""

    def __init__(self, namespace):
        self.namespace = namespace
        self.futures = []

    def chosen(self, which):
        if not self.futures:
            loop = asyncio.get_running_loop()
            self.futures += [loop.create_future() for _ in range(COUNT)]
        return [self.futures[number] for number in which]

    def numbers(self, futures):
        return sorted(self.futures.index(future) for future in futures)

    # What ends them.

    def finish(self, number):
        self.chosen([number])[0].set_result(f"result {number}")

    def fail(self, number):
        self.chosen([number])[0].set_exception(LookupError(number))

    def drop(self, number):
        # (Which of several that are done as_completed gives first, is the set's secret.)
        return self.chosen([number])[0].cancel("dropped")

    # What waits for them.

    async def gather(self, which, return_exceptions):
        results = await self.namespace.gather(*self.chosen(which), return_exceptions=return_exceptions)
        return [repr(result) for result in results]

    async def gather_children(self, children):
        results = await self.namespace.gather(*[self.child(*child) for child in children], return_exceptions=True)
        return [repr(result) for result in results]

    async def wait(self, which, until):
        done, pending = await self.namespace.wait(self.chosen(which), return_when=until)
        return self.numbers(done), self.numbers(pending)

    async def wait_no_time(self, which):
        done, pending = await self.namespace.wait(self.chosen(which), timeout=0)
        return self.numbers(done), self.numbers(pending)

    async def shield(self, number):
        return await self.namespace.shield(self.chosen([number])[0])

    async def wait_for(self, number):
        return await self.namespace.wait_for(self.chosen([number])[0], 60)

    async def wait_for_no_time(self, number):
        return await self.namespace.wait_for(self.chosen([number])[0], 0)

    async def as_completed(self, which):
        found = []
        for one in self.namespace.as_completed(self.chosen(which)):
            try:
                found.append(await one)
            except (LookupError, asyncio.CancelledError) as error:
                # Which of several futures comes first depends on their addresses, so none of them ends it.
                if isinstance(error, asyncio.CancelledError) and not str(error).startswith("dropped"):
                    raise
                found.append(repr(error))
        return sorted(found)

    async def child(self, turns, end):
        for _ in range(turns):
            await asyncio.sleep(0)
        if end == "fails":
            raise LookupError(turns)
        if end == "is cancelled":
            raise asyncio.CancelledError("by itself")
        if end == "waits":
            await asyncio.get_running_loop().create_future()
        return turns

    async def group(self, children, end):
        tasks = []
        try:
            async with self.namespace.TaskGroup() as group:
                tasks += [group.create_task(self.child(*child)) for child in children]
                await self.child(1, end)
        except BaseExceptionGroup as error:
            raise RuntimeError(error.message, [repr(one) for one in error.exceptions]) from error
        finally:
            ended = [(task.done(), task.cancelled()) for task in tasks]
        return ended

    async def limited(self, children):
        async with self.namespace.timeout(60) as limit:
            await self.gather_children(children)
        return limit.expired()


def look(stage):
    return [future._state for future in stage.futures]


def stages(*moves):
    """A test: programs of these ways to wait, and of what ends the futures."""
    ends = call("finish", ONE), call("fail", ONE), call("drop", ONE)
    return compare(lambda namespace, _: Stage(namespace), look, program=programs(*moves, *ends))


test_gather = stages(start("gather", WHICH, st.booleans()), start("gather_children", CHILDREN))
test_wait = stages(start("wait", WHICH, UNTIL), start("wait", WHICH, UNTIL), start("wait_no_time", WHICH))
test_shield_and_wait_for = stages(start("shield", ONE), start("wait_for", ONE), start("wait_for_no_time", ONE))
test_as_completed = stages(start("as_completed", WHICH))
test_groups_and_timeouts = stages(start("group", CHILDREN, ENDS), start("limited", CHILDREN))
