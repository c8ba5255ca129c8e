"""`loop._observe()` tells of everything that happens in a loop, and `clock="virtual"` makes waiting take no time."""

import asyncio
import gc
import signal
import socket
import time

import ferrio
import ferrio.live.snapshot
import pytest
from ferrio import _ferrio


class Record(list):
    """An observer that keeps what it is told."""

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments: self.append((name, *arguments))


@pytest.fixture
def loop():
    loop = ferrio.EventLoop(clock="virtual")
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def observed(loop, coroutine):
    record = Record()
    loop._observe(record)
    loop.run_until_complete(coroutine)
    loop._observe(None)
    return record


def test_a_sleep_is_told_from_the_timer_to_the_wake_up(loop):
    async def main():
        await asyncio.sleep(3600)

    begun = loop.time()
    record = observed(loop, main())
    names = [name for name, *_ in record]
    assert names[:10] == "queued begins timer_set ends sleeps wakes queued begins queued ends".split()
    (timer,) = [event for event in record if event[0] == "timer_set"]
    assert timer[2] == pytest.approx(begun + 3600) and record[4][1] == (timer[1], timer[2])
    # Why it was made ready: by that timer, and the task then by the step that the timer's callback was.
    assert record[6][2:] == ("timer", timer[1])
    task, step = record[1][2], record[7][1]
    assert isinstance(task, asyncio.Task) and record[8] == ("queued", task, "step", step)


def test_a_descriptors_news_is_the_cause(loop):
    ours, peer = socket.socketpair()
    ours.setblocking(False)

    async def main():
        loop.call_later(1, peer.send, b"x")
        assert await loop.sock_recv(ours, 10) == b"x"

    with ours, peer:
        record = observed(loop, main())
        causes = {event[-2:] for event in record if event[0] == "queued"}
        assert ("descriptor", 2 * ours.fileno()) in causes


def test_an_observer_that_raises_is_reported_and_changes_nothing(loop, monkeypatch):
    reported = []
    monkeypatch.setattr("sys.unraisablehook", lambda problem: reported.append(problem.exc_value))

    class Broken:
        def begins(self, *arguments):
            raise ValueError("broken")

        queued = ends = timer_set = timer_gone = sleeps = wakes = lambda self, *arguments: None

    loop._observe(Broken())
    assert loop.run_until_complete(asyncio.sleep(1, "result")) == "result"
    assert reported and {str(error) for error in reported} == {"broken"}


def test_virtual_time_jumps_and_loses_nothing_of_the_order(loop):
    async def main():
        order = []
        for delay in (3, 1, 2, 1):
            loop.call_later(delay, order.append, delay)
        begun = loop.time()
        await asyncio.sleep(10_000)
        return order, loop.time() - begun

    begun = time.monotonic()
    assert loop.run_until_complete(main()) == ([1, 1, 2, 3], pytest.approx(10_000))
    assert time.monotonic() - begun < 1000


def test_virtual_time_stands_still_while_a_thread_or_a_child_works(loop):
    async def main():
        async with asyncio.timeout(0.001):
            await loop.run_in_executor(None, time.sleep, 0.05)
        async with asyncio.timeout(0.001):
            process = await asyncio.create_subprocess_exec("sleep", "0.05")
            await process.wait()

    loop.run_until_complete(main())


def test_an_unknown_clock_is_refused():
    with pytest.raises(ValueError, match="'sundial'"):
        ferrio.EventLoop(clock="sundial")
    with pytest.raises(TypeError):
        ferrio.EventLoop(3)


def test_a_loop_whose_init_fails_is_closed_without_a_further_error(monkeypatch):
    reported = []
    monkeypatch.setattr("sys.unraisablehook", lambda problem: reported.append(problem.exc_value))

    class Failing(ferrio.EventLoop):
        def __init__(self):
            raise LookupError

    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        with pytest.raises(LookupError):
            Failing()
        gc.collect()
    assert reported == []


def test_a_subclass_may_take_arguments_of_its_own():
    class Own(ferrio.EventLoop):
        def __init__(self, name, *, colour):
            super().__init__(clock="real")
            self.name = name, colour

    loop = Own("it", colour="red")
    assert loop.name == ("it", "red") and not loop._clock_is_virtual
    loop.close()


def test_ctrl_c_while_a_loop_writes_its_snapshot_ends_the_run(monkeypatch):
    def write(loop):
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.01)

    monkeypatch.setattr(ferrio.live.snapshot, "write", write)
    loop = ferrio.new_event_loop()
    page = _ferrio.PageView(_ferrio.page_path())
    loop.call_soon(page.request)
    loop.call_later(1, loop.stop)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.close()


def test_a_loop_leaves_a_snapshot_for_whoever_asks():
    page = _ferrio.PageView(_ferrio.page_path())

    async def main():
        asked = page.request()
        for _ in range(1000):
            await asyncio.sleep(0.01)
            snapshots = [page.snapshot(one["slot"]) for one in page.loops() if one["state"] == "running"]
            if any(answers == asked and b"main" in text for _when, answers, text in filter(None, snapshots)):
                return True
        return False

    assert asyncio.Runner(loop_factory=ferrio.new_event_loop).run(main())


def test_an_observer_may_look_at_what_is_watched_when_it_is_told(loop):
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    seen = []

    class Looking(Record):
        def queued(self, subject, cause, payload):
            seen.append((cause, [(fd, direction, type(who).__name__) for fd, direction, who in loop._descriptors()]))

    async def main():
        loop.add_reader(ours, loop.remove_reader, ours)
        loop.call_later(1, peer.send, b"x")
        await asyncio.sleep(2)
        assert await loop.sock_recv(ours, 10) == b"x"
        loop.call_later(1, peer.send, b"y")
        assert await loop.sock_recv(ours, 10) == b"y"

    with ours, peer:
        loop._observe(Looking())
        loop.run_until_complete(main())
        loop._observe(None)
        watching = [kind for _, watched in seen for fd, _, kind in watched if fd == ours.fileno()]
        assert "descriptor" in dict(seen) and {"Handle", "Awaitable"} <= set(watching)


def test_virtual_time_stands_still_while_the_executor_is_shut_down(loop, recwarn):
    async def main():
        future = loop.run_in_executor(None, time.sleep, 0.2)
        begun = loop.time()
        await loop.shutdown_default_executor(timeout=1)
        await future
        return loop.time() - begun

    assert loop.run_until_complete(main()) == 0
    assert not recwarn.list
