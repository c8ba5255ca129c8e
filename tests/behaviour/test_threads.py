"""Callbacks from other threads."""

import contextlib
import threading
import time

from .support import within


def test_call_soon_threadsafe_from_many_threads_loses_nothing(loop):
    got = []
    threads, each = 8, 3000

    def other(number):
        for n in range(each):
            loop.call_soon_threadsafe(got.append, (number, n))

    def check():
        if len(got) < threads * each:
            loop.call_later(0.001, check)
        else:
            loop.stop()

    workers = [threading.Thread(target=other, args=(number,)) for number in range(threads)]
    for worker in workers:
        loop.call_soon(worker.start)
    loop.call_soon(check)
    loop.run_forever()
    for worker in workers:
        worker.join()
    for number in range(threads):
        assert [n for who, n in got if who == number] == list(range(each))


def test_call_soon_threadsafe_wakes_a_sleeping_loop_at_once(loop, run):
    async def main():
        for _ in range(50):
            woken = loop.create_future()
            started = time.monotonic()
            threading.Timer(0.002, loop.call_soon_threadsafe, [woken.set_result, None]).start()
            await within(woken)
            assert time.monotonic() - started < 5

    run(main())


def test_call_soon_from_the_wrong_thread_never_corrupts_the_queue(loop):
    """A user's error: it may be refused, but what was accepted runs once, and nothing else is hurt."""
    ran = []
    accepted = []

    def wrong_thread(number):
        for n in range(2000):
            with contextlib.suppress(RuntimeError):
                loop.call_soon(ran.append, (number, n))
                accepted.append((number, n))

    threads = [threading.Thread(target=wrong_thread, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()

    def check():
        if any(thread.is_alive() for thread in threads):
            loop.call_later(0.001, check)
        else:
            loop.call_later(0.05, loop.stop)

    loop.call_soon(check)
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert sorted(ran) == sorted(accepted)
