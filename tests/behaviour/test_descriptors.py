"""Descriptors that a program watches itself, by `add_reader` and `add_writer`, and those of transports."""

import asyncio
import os

from .support import fill, in_thread, read_exactly, reset, transport_over, turns, until, within


def test_data_flows_both_ways_at_once(run, sockets):
    """A connection readable and writable in the same wake-up: neither side of the news may be lost."""
    ours, peer = sockets
    size = 16 << 20

    async def main():
        transport, protocol = await transport_over(ours)
        receiving = in_thread(read_exactly, peer, size)
        sending = in_thread(peer.sendall, b"b" * size)
        for _ in range(size >> 16):
            transport.write(b"a" * (1 << 16))
            if transport.get_write_buffer_size() > 1 << 20:
                await until(lambda: transport.get_write_buffer_size() < 1 << 16)
        assert await within(receiving, 20) == b"a" * size
        await within(sending, 20)
        await until(lambda: len(protocol.data) == size)
        transport.close()
        await within(protocol.lost)

    run(main())


def test_a_reader_that_reads_little_is_called_until_nothing_is_left(loop, run, sockets):
    ours, peer = sockets
    got = bytearray()
    loop.add_reader(ours, lambda: got.extend(ours.recv(3)))
    peer.send(bytes(range(200)))
    run(until(lambda: len(got) == 200))
    loop.remove_reader(ours)
    assert got == bytes(range(200))


def test_a_writer_is_called_again_while_there_is_room(loop, run, sockets):
    ours, _ = sockets
    calls = []
    loop.add_writer(ours, calls.append, 1)
    run(until(lambda: len(calls) > 10))
    assert loop.remove_writer(ours) is True
    assert loop.remove_writer(ours) is False
    count = len(calls)
    run(turns(10))
    assert len(calls) == count


def test_a_descriptor_ready_for_both_calls_its_reader_and_its_writer(loop, run, sockets):
    ours, peer = sockets
    order = []
    peer.send(b"x")
    loop.add_writer(ours, order.append, "writer")
    loop.add_reader(ours, order.append, "reader")
    run(until(lambda: len(order) >= 4))
    loop.remove_writer(ours)
    loop.remove_reader(ours)
    assert order[:4] == ["reader", "writer", "reader", "writer"]


def test_removing_the_reader_keeps_the_writer_and_the_other_way_round(loop, run, sockets):
    ours, peer = sockets
    peer.send(b"x")
    reads, writes = [], []
    loop.add_reader(ours, reads.append, 1)
    loop.add_writer(ours, writes.append, 1)
    assert loop.remove_reader(ours) is True
    run(until(lambda: writes))
    assert reads == []
    loop.add_reader(ours, reads.append, 1)
    loop.remove_writer(ours)
    writes.clear()
    run(until(lambda: reads))
    assert writes == []
    loop.remove_reader(ours)


def test_adding_a_reader_again_replaces_the_first(loop, run, sockets):
    ours, peer = sockets
    first, second = [], []
    loop.add_reader(ours, first.append, 1)
    loop.add_reader(ours, second.append, 1)
    peer.send(b"x")
    run(until(lambda: second))
    loop.remove_reader(ours)
    assert first == []


def test_an_error_on_a_socket_wakes_both_reader_and_writer(loop, run, sockets):
    ours, peer = sockets
    fill(ours)
    woken = []
    loop.add_reader(ours, lambda: (woken.append("reader"), loop.remove_reader(ours)))
    loop.add_writer(ours, lambda: (woken.append("writer"), loop.remove_writer(ours)))
    run(asyncio.sleep(0.01))
    assert woken == []
    reset(peer)
    run(until(lambda: sorted(woken) == ["reader", "writer"]))


def test_the_write_end_of_a_pipe_hears_that_its_reader_left(loop, run):
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    while True:
        try:
            os.write(write_end, bytes(65536))
        except BlockingIOError:
            break
    woken = []
    loop.add_reader(write_end, lambda: (woken.append("reader"), loop.remove_reader(write_end)))
    loop.add_writer(write_end, lambda: (woken.append("writer"), loop.remove_writer(write_end)))
    run(asyncio.sleep(0.01))
    assert woken == []
    os.close(read_end)
    run(until(lambda: sorted(woken) == ["reader", "writer"]))
    os.close(write_end)
