"""Readers that come and go: a registration that nobody uses is left until news comes, and nobody may notice."""

import asyncio
import errno
import gc
import os
import queue
import socket
import tempfile
import threading
import time
import weakref

import pytest

from .conftest import takes_turns


@pytest.fixture
def pair():
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    with ours, peer:
        yield ours, peer


def turns(loop):
    """How many there have been; asyncio's loop does not count them."""
    return loop._counters()["turns"] if hasattr(loop, "_counters") else 0


async def quiet(loop):
    """Asserts that the loop sleeps when it has nothing to do."""
    before = turns(loop)
    await asyncio.sleep(0.1)
    assert turns(loop) - before < 20


def test_news_after_remove_reader_reaches_nobody_and_the_loop_sleeps_on(loop, pair):
    ours, peer = pair
    got = []

    async def main():
        loop.add_reader(ours, got.append, "news")
        assert loop.remove_reader(ours)
        assert not loop.remove_reader(ours)
        peer.send(b"x")
        await quiet(loop)
        assert got == []
        loop.add_reader(ours, lambda: got.append(ours.recv(10)))
        await asyncio.sleep(0.01)
        assert got == [b"x"]

    loop.run_until_complete(main())


@takes_turns
def test_another_thread_watches_while_the_loop_sleeps(running, pair):
    ours, peer = pair
    got, room = queue.Queue(), threading.Event()
    running.add_reader(ours, lambda: got.put((ours.recv(10), threading.current_thread())))
    peer.send(b"x")
    data, thread = got.get(timeout=10)
    assert (data, thread is threading.current_thread()) == (b"x", False)
    assert running.remove_reader(ours)
    assert not running.remove_reader(ours)
    peer.send(b"y")
    running.add_writer(ours, lambda: (room.set(), running.remove_writer(ours)))
    assert room.wait(10)
    assert got.empty()
    with tempfile.TemporaryFile() as file, pytest.raises(PermissionError):
        running.add_reader(file, print)
    ours.close()
    with pytest.raises((OSError, ValueError)):
        running.add_reader(ours, print)


@takes_turns
def test_other_threads_watch_while_the_loop_is_busy(running):
    """Sockets that come and go, while the loop watches and unwatches one of its own."""
    left, failed = 4, []

    def busy():
        running.add_reader(own, print)
        running.remove_reader(own)
        if left:
            running.call_soon(busy)

    def come_and_go():
        nonlocal left
        try:
            for _ in range(200):
                ours, peer = socket.socketpair()
                with ours, peer:
                    ours.setblocking(False)
                    arrived = threading.Event()
                    running.add_reader(ours, lambda: (ours.recv(10), arrived.set()))
                    peer.send(b"x")
                    assert arrived.wait(10), "nobody was told"
                    assert running.remove_reader(ours)
        except BaseException as error:
            failed.append(error)
        left -= 1

    own, far = socket.socketpair()
    with own, far:
        running.call_soon_threadsafe(busy)
        threads = [threading.Thread(target=come_and_go) for _ in range(left)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failed, failed
        assert left == 0
        time.sleep(0.05)


def test_a_descriptor_that_is_closed_and_lives_on_elsewhere_is_shaken_off(loop, pair):
    ours, peer = pair
    other, far = socket.socketpair()
    got = []

    async def main():
        loop.add_reader(other, lambda: got.append(other.recv(10)))
        loop.add_reader(ours, got.append, "never")
        await asyncio.sleep(0)
        loop.remove_reader(ours)
        with socket.socket(fileno=os.dup(ours.fileno())):
            ours.close()
            peer.send(b"x")
            await quiet(loop)
            # Whoever was watched still is, and other threads still reach the loop.
            far.send(b"y")
            await asyncio.wait_for(loop.run_in_executor(None, os.getpid), 10)
            await asyncio.sleep(0.01)
        assert got == [b"y"]
        loop.remove_reader(other)

    with other, far:
        loop.run_until_complete(main())


def test_the_number_of_one_that_lives_on_elsewhere_is_its_successors_alone(loop, pair):
    ours, peer = pair
    other, far = socket.socketpair()
    got = []

    async def main():
        number = ours.fileno()
        loop.add_reader(number, got.append, "the old one")
        loop.remove_reader(number)
        with socket.socket(fileno=os.dup(number)):
            os.dup2(other.fileno(), number)
            loop.add_reader(number, lambda: got.append(os.read(number, 10)))
            peer.send(b"x")
            await quiet(loop)
            assert got == []
            far.send(b"y")
            await asyncio.sleep(0.01)
            assert got == [b"y"]
            loop.remove_reader(number)

    with other, far:
        loop.run_until_complete(main())


def test_a_number_is_asked_about_each_time_it_is_watched(loop, pair):
    ours, _ = pair
    number = ours.fileno()
    loop.add_reader(number, print)
    loop.remove_reader(number)
    keep = os.dup(number)
    with tempfile.TemporaryFile() as file:
        os.close(number)
        with pytest.raises(OSError) as refused:
            loop.add_reader(number, print)
        assert refused.value.errno == errno.EBADF
        os.dup2(file.fileno(), number)
        with pytest.raises(PermissionError):
            loop.add_reader(number, print)
    assert not loop.remove_reader(number)
    # The fixture closes the number.
    os.dup2(keep, number)
    os.close(keep)


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_descriptor_and_callback_may_be_given_by_name(loop, pair, method):
    ours, peer = pair
    peer.send(b"x")
    add, remove = getattr(loop, method), getattr(loop, method.replace("add", "remove"))
    add(callback=loop.stop, fd=ours)
    loop.run_forever()
    assert remove(fd=ours)
    for arguments, keywords in [((), {}), ((ours,), {}), ((ours, print), {"fd": ours}), ((ours, print), {"args": ()})]:
        with pytest.raises(TypeError):
            add(*arguments, **keywords)
    for arguments in [(), (ours, ours)]:
        with pytest.raises(TypeError):
            remove(*arguments)


class File:
    """Stands for a socket's descriptor."""

    def __init__(self, sock):
        self.fileno = sock.fileno


def closed(sock):
    sock.close()
    return sock


@pytest.mark.parametrize("what", ["reader", "writer"])
def test_a_socket_that_was_closed_is_still_known_by_the_object_that_was_watched(loop, pair, what):
    ours, _ = pair
    add, remove = getattr(loop, f"add_{what}"), getattr(loop, f"remove_{what}")

    async def main():
        add(ours, print)
        assert remove(closed(ours)) is True
        with pytest.raises(ValueError):
            remove(ours)

    loop.run_until_complete(main())


def test_a_closed_socket_that_was_not_watched_is_refused(loop, pair):
    ours, peer = pair

    async def main():
        loop.add_reader(peer, print)
        loop.add_reader(ours, print)
        loop.remove_reader(ours)
        with pytest.raises(ValueError):
            loop.remove_reader(closed(ours))
        assert loop.remove_reader(peer) is True

    loop.run_until_complete(main())


def test_a_socket_is_let_go_of_when_it_is_no_longer_watched(loop, pair):
    ours, _ = pair

    async def main():
        file = File(ours)
        gone = weakref.ref(file)
        loop.add_reader(file, print)
        loop.add_writer(file, print)
        loop.remove_reader(file)
        loop.remove_writer(file)
        del file
        gc.collect()
        assert gone() is None

    loop.run_until_complete(main())


def test_a_closed_loop_lets_go_of_what_it_watched(new_loop, pair):
    ours, _ = pair
    loop = new_loop()
    file = File(ours)
    gone = weakref.ref(file)
    loop.add_reader(file, print)
    loop.close()
    del file
    gc.collect()
    assert gone() is None
