"""Forks: what a child may do with asyncio, and that nothing it does reaches its parent's loop."""

import asyncio
import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
import warnings

import ferrio
import pytest


@pytest.fixture(autouse=True)
def no_warning_about_threads():
    """CPython warns when a process with threads forks; ours are the point of a test here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def in_child(function):
    """Runs the function in a forked child and asserts that it returned; the child never comes back to the tests."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid


def reap(pid):
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the child failed; its traceback is in stderr"


async def reap_later(pid):
    await asyncio.get_running_loop().run_in_executor(None, reap, pid)


def test_a_child_of_a_running_loop_runs_a_loop_of_its_own(new_loop):
    async def echo():
        first, second = socket.socketpair()
        with first, second:
            reader, writer = await asyncio.open_connection(sock=first)
            second.send(b"hello")
            assert await asyncio.wait_for(reader.read(10), 5) == b"hello"
            writer.close()
            await asyncio.sleep(0.01)
        return 42

    def child():
        with asyncio.Runner(loop_factory=new_loop) as runner:
            assert runner.run(echo()) == 42

    async def main():
        await reap_later(in_child(child))
        return await echo()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(main()) == 42


def test_a_child_forked_from_another_thread_runs_a_loop_of_its_own(new_loop):
    def child():
        with asyncio.Runner(loop_factory=new_loop) as runner:
            assert runner.run(asyncio.sleep(0.01, "done")) == "done"

    async def main():
        await asyncio.to_thread(lambda: reap(in_child(child)))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def run_in_child_process(queue):
    queue.put(ferrio.run(asyncio.sleep(0.01, "from the child")))


def test_multiprocessing_by_fork_works_from_within_a_loop():
    context = multiprocessing.get_context("fork")

    async def main():
        queue = context.Queue()
        process = context.Process(target=run_in_child_process, args=(queue,))
        process.start()
        assert await asyncio.to_thread(queue.get, True, 10) == "from the child"
        await asyncio.to_thread(process.join, 10)
        assert process.exitcode == 0

    ferrio.run(main())


@pytest.mark.skipif(not hasattr(asyncio, "set_event_loop_policy"), reason="this Python has no policies any more")
@pytest.mark.parametrize("is_set", [False, True])
def test_a_policy_of_the_parent_makes_and_knows_loops_in_the_child(is_set):
    """asyncio has the policy forget its parent's loops, since 3.12."""
    inherited = ferrio.new_event_loop()

    def child():
        if sys.version_info < (3, 14):
            loop = asyncio.get_event_loop()
        else:
            with pytest.raises(RuntimeError):
                asyncio.get_event_loop()
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
        if sys.version_info >= (3, 12):
            assert loop is not inherited
        assert asyncio.get_event_loop() is loop
        assert isinstance(loop, ferrio.EventLoop)
        assert loop.run_until_complete(asyncio.sleep(0, 5)) == 5
        asyncio.set_event_loop(None)
        loop.close()

    former = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(ferrio.EventLoopPolicy())
    try:
        if is_set:
            asyncio.set_event_loop(inherited)
        reap(in_child(child))
    finally:
        asyncio.set_event_loop_policy(former)
        inherited.close()


def test_a_loop_made_before_the_fork_runs_in_the_child_and_in_the_parent(new_loop):
    loop = new_loop()

    async def exchange():
        first, second = socket.socketpair()
        with first, second:
            heard = loop.create_future()
            loop.add_reader(first, lambda: heard.done() or heard.set_result(first.recv(10)))
            second.send(b"hello")
            assert await asyncio.wait_for(heard, 5) == b"hello"
            loop.remove_reader(first)

    pid = in_child(lambda: loop.run_until_complete(exchange()))
    loop.run_until_complete(exchange())
    reap(pid)
    loop.close()


# From here on only ferrio: on the stock loop parent and child share one epoll instance, and disturb each other.


@pytest.fixture
def parent():
    """A loop that watches a socket; asserts in the end that it still hears of it."""
    loop = ferrio.new_event_loop()
    watched, other_end = socket.socketpair()
    heard = []
    loop.add_reader(watched, lambda: heard.append(watched.recv(10)))
    loop.run_until_complete(asyncio.sleep(0))
    yield loop, watched, other_end
    heard.clear()
    other_end.send(b"still there")
    loop.run_until_complete(asyncio.sleep(0.05))
    assert b"".join(heard) == b"still there"
    loop.remove_reader(watched)
    loop.close()
    watched.close()
    other_end.close()


def test_a_child_that_stops_watching_leaves_its_parents_watchers_alone(parent):
    loop, watched, _ = parent
    reap(in_child(lambda: loop.remove_reader(watched)))


def test_a_child_that_closes_the_loop_leaves_its_parents_open(parent):
    loop, _, _ = parent
    reap(in_child(loop.close))


def test_a_child_that_watches_more_leaves_its_parent_undisturbed(parent):
    loop, _, _ = parent

    def child():
        first, second = socket.socketpair()
        heard = []
        loop.add_reader(first, lambda: heard.append(first.recv(1)))
        second.send(b"x")
        loop.run_until_complete(asyncio.sleep(0.05))
        assert heard == [b"x"]

    reap(in_child(child))


def test_the_watchers_of_an_inherited_loop_go_on_in_the_child(parent):
    loop, watched, _ = parent

    def child():
        heard = []
        first, second = socket.socketpair()
        loop.remove_reader(watched)
        os.dup2(first.fileno(), watched.fileno())
        loop.add_reader(watched, lambda: heard.append(os.read(watched.fileno(), 10)))
        loop.call_later(0.01, second.send, b"hello")
        loop.run_until_complete(asyncio.sleep(0.05))
        assert heard == [b"hello"]

    reap(in_child(child))


def test_an_inherited_reader_is_watched_in_the_child():
    loop = ferrio.new_event_loop()
    watched, other_end = socket.socketpair()
    heard = []
    loop.add_reader(watched, lambda: heard.append(watched.recv(10)))
    loop.run_until_complete(asyncio.sleep(0))

    def child():
        other_end.send(b"in the child")
        loop.run_until_complete(asyncio.sleep(0.05))
        assert b"".join(heard) == b"in the child"

    reap(in_child(child))
    assert heard == []
    loop.close()
    watched.close()
    other_end.close()


def test_a_child_that_collects_its_parents_transports_leaves_them_to_the_parent(parent):
    loop, _, _ = parent
    first, second = socket.socketpair()

    async def connect():
        return await loop.create_connection(asyncio.Protocol, sock=first)

    transport, _ = loop.run_until_complete(connect())

    def child():
        nonlocal transport
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            transport.abort()
            loop.run_until_complete(asyncio.sleep(0))
            del transport

    reap(in_child(child))
    transport.write(b"alive")
    loop.run_until_complete(asyncio.sleep(0.01))
    assert second.recv(10) == b"alive"
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))
    second.close()


async def nap(loop, seconds):
    """asyncio.sleep() for a child in the middle of an inherited run: CPython has it forget which loop runs."""
    asyncio._set_running_loop(loop)
    woken = loop.create_future()
    loop.call_later(seconds, woken.set_result, None)
    await woken


def test_a_child_goes_on_in_the_middle_of_an_inherited_run():
    loop = ferrio.new_event_loop()

    async def main():
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                await nap(loop, 0.01)
                first, second = socket.socketpair()
                second.send(b"hello")
                first.setblocking(False)
                assert await loop.sock_recv(first, 10) == b"hello"
                status = 0
            finally:
                os._exit(status)
        await reap_later(pid)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_a_signal_to_a_child_is_not_handled_in_its_parent():
    former = signal.getsignal(signal.SIGUSR1)
    loop = ferrio.new_event_loop()
    seen = []

    async def main():
        loop.add_signal_handler(signal.SIGUSR1, seen.append, os.getpid())
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.kill(os.getpid(), signal.SIGUSR1)
                await nap(loop, 0.05)
                status = 0 if len(seen) == 1 else 2
            finally:
                os._exit(status)
        await reap_later(pid)
        await asyncio.sleep(0.05)
        assert seen == []
        # And the parent's own signals still wake it.
        heard = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, heard.set_result, "woken")
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert await asyncio.wait_for(heard, 5) == "woken"

    try:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
        signal.signal(signal.SIGUSR1, former)


def test_a_loop_that_ran_in_another_thread_is_refused_in_the_child():
    loop = ferrio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(5)

    def child():
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()

    reap(in_child(child))
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    assert not thread.is_alive()
    loop.close()
