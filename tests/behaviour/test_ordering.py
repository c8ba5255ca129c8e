"""The order in which a loop runs what it was given."""

import asyncio
import random
import socket
import threading
import time

import pytest

from .support import Recorder, transport_over, turns


def test_a_turn_runs_what_was_ready_then_io_then_timers(loop, sockets):
    ours, peer = sockets
    order = []

    def provoke_all_three():
        loop.call_later(0.001, order.append, "timer")
        peer.send(b"x")
        time.sleep(0.02)  # Both are due by now, and the next turn meets all three at once.
        loop.call_soon(order.append, "ready")

    def readable():
        ours.recv(1)
        order.append("io")

    loop.add_reader(ours, readable)
    loop.call_soon(provoke_all_three)
    loop.call_later(0.1, loop.stop)
    loop.run_forever()
    loop.remove_reader(ours)
    assert order == ["ready", "io", "timer"]


def test_data_received_waits_its_turn_behind_what_was_ready(loop, run, sockets):
    ours, peer = sockets
    order = []

    class Protocol(Recorder):
        def data_received(self, data):
            order.append("data")

    async def main():
        await transport_over(ours, Protocol)
        await asyncio.sleep(0.01)
        peer.send(b"x")
        time.sleep(0.01)
        loop.call_soon(order.append, "first")
        loop.call_soon(order.append, "second")
        await asyncio.sleep(0.05)

    run(main())
    assert order == ["first", "second", "data"]


def test_callbacks_added_while_running_belong_to_the_next_turn(loop):
    order = []

    def first():
        order.append("first")
        loop.call_soon(order.append, "added")

    loop.call_soon(first)
    loop.call_soon(loop.stop)  # Ends with this turn: its snapshot still runs, what was added does not.
    loop.call_soon(order.append, "second")
    loop.run_forever()
    assert order == ["first", "second"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert order == ["first", "second", "added"]


def test_stop_before_run_forever_runs_exactly_one_turn(loop):
    order = []
    loop.call_soon(lambda: (order.append("now"), loop.call_soon(order.append, "later")))
    loop.stop()
    loop.run_forever()
    assert order == ["now"]


def test_callbacks_added_by_a_turn_run_after_the_io_that_came_meanwhile(loop, sockets):
    ours, peer = sockets
    order = []

    def first():
        loop.call_soon(second)
        peer.send(b"x")
        time.sleep(0.01)

    def second():
        order.append("second")
        loop.call_soon(order.append, "third")

    loop.add_reader(ours, lambda: (ours.recv(1), order.append("io")))
    loop.call_soon(first)
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    loop.remove_reader(ours)
    assert order == ["second", "io", "third"]


@pytest.mark.parametrize("what", ["io", "timer", "other thread"])
def test_an_endless_chain_of_callbacks_starves_nobody(loop, sockets, what):
    ours, peer = sockets
    links = 0

    def chain():
        nonlocal links
        links += 1
        if links < 1_000_000:
            loop.call_soon(chain)
        else:
            loop.stop()

    def heard():
        loop.stop()

    loop.call_soon(chain)
    if what == "io":
        peer.send(b"x")
        loop.add_reader(ours, heard)
    elif what == "timer":
        loop.call_later(0.001, heard)
    else:
        threading.Timer(0.01, loop.call_soon_threadsafe, [heard]).start()
    loop.run_forever()
    loop.remove_reader(ours)
    assert 0 < links < 1_000_000


def test_two_equal_deadlines_fire_in_scheduling_order(loop):
    order = []
    when = loop.time() + 0.01
    loop.call_at(when, order.append, 1)
    loop.call_at(when, order.append, 2)
    loop.call_at(when + 0.01, loop.stop)
    loop.run_forever()
    assert order == [1, 2]


@pytest.mark.stock_differs(
    "its heap of deadlines has no sequence number, so from four equal ones on the order is the heap's"
)
def test_many_equal_deadlines_fire_in_scheduling_order(loop):
    order = []
    when = loop.time() + 0.02
    for n in range(1000):
        loop.call_at(when, order.append, n)
    loop.call_at(when + 0.01, loop.stop)
    loop.run_forever()
    assert order == list(range(1000))


def test_equal_deadlines_keep_their_order_when_some_are_cancelled(loop):
    """Enough cancelled timers to make the loop compact its heap."""
    order = []
    start = loop.time() + 0.05
    handles = [loop.call_at(start + n * 1e-6, order.append, n) for n in range(2000)]
    for n, handle in enumerate(handles):
        if n % 3:
            handle.cancel()
    loop.call_at(start + 0.01, loop.stop)
    loop.run_forever()
    assert order == list(range(0, 2000, 3))


def test_different_deadlines_fire_by_deadline_however_they_were_scheduled(loop):
    order = []
    start = loop.time() + 0.03
    shuffled = list(range(500))
    random.Random(3).shuffle(shuffled)
    for n in shuffled:
        loop.call_at(start + n * 1e-5, order.append, n)
    loop.call_at(start + 0.02, loop.stop)
    loop.run_forever()
    assert order == list(range(500))


@pytest.mark.parametrize("running", [True, False], ids=["running", "not running"])
def test_what_a_thread_has_left_comes_before_what_is_called_soon_afterwards(loop, running):
    order = []

    def leave():
        loop.call_soon_threadsafe(order.append, "thread")

    def call():
        thread = threading.Thread(target=leave)
        thread.start()
        thread.join()
        loop.call_soon(order.append, "own")
        loop.call_soon(loop.stop)

    if running:
        loop.call_soon(call)
    else:
        call()
    loop.run_forever()
    assert order == ["thread", "own"]


def test_call_soon_and_call_soon_threadsafe_share_one_queue(loop):
    order = []

    def on_the_loop():
        for n in range(10, 100, 2):
            loop.call_soon(order.append, n)
            loop.call_soon_threadsafe(order.append, n + 1)
        loop.call_soon(loop.stop)

    for n in range(0, 10, 2):  # Before the loop runs as well.
        loop.call_soon_threadsafe(order.append, n)
        loop.call_soon(order.append, n + 1)
    loop.call_soon(on_the_loop)
    loop.run_forever()
    assert order == list(range(100))


def test_callbacks_of_one_other_thread_keep_their_order(loop):
    got = []

    def other():
        for n in range(5000):
            loop.call_soon_threadsafe(got.append, n)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=other)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert got == list(range(5000))


@pytest.mark.parametrize(
    "delays",
    [
        pytest.param([random.Random(5).uniform(0, 0.05) for _ in range(500)], id="many-at-once"),
        pytest.param([0.0001, 0.0005, 0.001, 0.0015, 0.0019999, 0.01], id="few"),
        pytest.param([0, 1e-9, 1e-7, 1e-6, 1e-5], id="tiny"),
    ],
)
def test_a_timer_never_fires_before_its_time(loop, delays):
    early = []

    def fired(when):
        if loop.time() < when:
            early.append(when - loop.time())

    for delay in delays:
        when = loop.time() + delay
        loop.call_at(when, fired, when)
    loop.call_later(max(delays) + 0.01, loop.stop)
    loop.run_forever()
    assert early == []


def test_a_sleep_alone_on_the_loop_is_never_too_short(loop, run):
    """Each of these sleeps is one wait in the operating system, with nothing to make up for a wait rounded down."""

    async def main():
        for n in range(60):
            delay = n * 0.00013
            before = loop.time()
            await asyncio.sleep(delay)
            assert loop.time() - before >= delay

    run(main())


def test_a_timer_due_already_runs_in_the_next_turn(loop):
    order = []
    loop.call_at(loop.time() - 10, order.append, "late")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert order == ["late"]


def test_a_cancelled_handle_does_not_run_though_it_was_picked_for_this_turn(loop):
    order = []
    loop.call_soon(lambda: victim.cancel())
    victim = loop.call_soon(order.append, "cancelled")
    loop.call_soon(order.append, "kept")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert order == ["kept"]


def test_tasks_step_in_the_order_they_were_created(run):
    order = []

    async def worker(name):
        for step in range(3):
            order.append((step, name))
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(*(worker(name) for name in "abcd"))

    run(main())
    assert order == [(step, name) for step in range(3) for name in "abcd"]


def test_a_reader_fires_once_a_turn_while_there_is_something_to_read(loop, run):
    """Level-triggered, as `add_reader` is: a callback that takes one byte is called again for the next."""
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        got = []
        peer.send(b"abcdef")
        loop.add_reader(ours, lambda: got.append(ours.recv(1)))

        async def main():
            for expected in range(1, 7):
                while len(got) < expected:
                    await turns()
                assert len(got) == expected

        run(main())
        loop.remove_reader(ours)
    assert b"".join(got) == b"abcdef"
