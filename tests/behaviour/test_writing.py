"""Writing to a transport: when it leaves, what becomes of the caller's buffers, and of what comes after the end."""

import asyncio
import inspect
import logging
import socket
import sys

import pytest

from .support import (
    BufferedRecorder,
    Recorder,
    in_thread,
    read_all,
    read_exactly,
    reset,
    transport_over,
    turns,
    until,
    within,
)


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_writes_after_the_end_are_dropped_silently(run, sockets, ending):
    ours, peer = sockets

    async def main():
        transport, protocol = await transport_over(ours)
        transport.write(b"before")
        getattr(transport, ending)()
        transport.write(b"after")
        await within(protocol.lost)
        transport.write(b"long after")

    run(main())
    assert read_all(peer) == b"before"


def test_writes_to_a_lost_connection_are_warned_of_after_the_fifth(run, sockets, caplog):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        reset(sockets[1])
        await within(protocol.lost)
        warnings = []
        for _ in range(10):
            caplog.clear()
            transport.write(b"x")
            warnings.append([(r.name, r.levelno, r.getMessage()) for r in caplog.records])
        return warnings

    warnings = run(main())
    assert warnings[:4] == [[]] * 4
    assert warnings[5:] == [[("asyncio", logging.WARNING, "socket.send() raised exception.")]] * 5


def test_a_bytearray_may_be_changed_as_soon_as_write_returns(run, sockets):
    ours, peer = sockets

    async def main():
        transport, protocol = await transport_over(ours)
        data = bytearray(b"first")
        transport.write(data)
        data[:] = b"other"
        data.clear()
        transport.write(memoryview(b"--second--")[2:-2])
        await turns(3)
        transport.close()
        await within(protocol.lost)

    run(main())
    assert read_all(peer) == b"firstsecond"


@pytest.mark.stock_differs(
    "since 3.12 what the kernel did not take is kept as a view of the caller's buffer", when=sys.version_info >= (3, 12)
)
def test_a_bytearray_may_be_changed_while_it_waits_in_the_buffer(run, sockets):
    ours, peer = sockets
    size = 8 << 20

    async def main():
        transport, protocol = await transport_over(ours)
        data = bytearray(b"a" * size)
        transport.write(data)
        data[:] = b"b" * size
        transport.close()
        received = await in_thread(read_all, peer)
        await within(protocol.lost)
        return received

    received = run(main())
    assert len(received) == size
    assert received.count(b"a") == size


def test_a_write_while_the_loop_is_not_running_reaches_the_kernel(run, sockets):
    ours, peer = sockets
    transport, protocol = run(transport_over(ours))
    transport.write(b"the loop stands still")
    assert peer.recv(100) == b"the loop stands still"
    transport.close()
    run(within(protocol.lost))


def test_a_write_is_visible_to_the_peer_while_the_loop_is_blocked(request, run, sockets, loop):
    if type(loop).__module__.startswith("ferrio"):
        reason = "what a turn writes is gathered and leaves in one system call before the loop sleeps (docs/compatibility.md)"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    ours, peer = sockets

    async def main():
        transport, protocol = await transport_over(ours)
        transport.write(b"now")
        assert peer.recv(100) == b"now"
        transport.writelines([b"and ", b"now"])
        assert peer.recv(100) == b"and now"
        transport.close()
        await within(protocol.lost)

    run(main())


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_a_large_answer_has_left_before_the_next_connection_is_read(run, sockets, kind):
    piece = bytes(5000)
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.settimeout(5)
    answered = []

    class Answers(kind):
        def data_received(self, data):
            if answered:
                read_exactly(peers[answered[0]], 2 * len(piece))
            self.transport.write(piece)
            self.transport.write(piece)
            answered.append(self)

        def buffer_updated(self, count):
            self.data_received(bytes(count))

    peers = {}

    async def main():
        for pair in (sockets, (ours, peer)):
            _, protocol = await transport_over(pair[0], Answers)
            peers[protocol] = pair[1]
        for each in peers.values():
            each.send(b"?")
        await until(lambda: len(answered) == 2)
        for protocol in peers:
            protocol.transport.close()
            assert await within(protocol.lost) is None

    with ours, peer:
        run(main())


def test_many_writes_of_many_sizes_arrive_in_order(run, sockets):
    ours, peer = sockets
    chunks = [bytes([n % 256]) * (n * 37 % 5000) for n in range(3000)]

    async def main():
        reader = in_thread(read_all, peer)
        transport, protocol = await transport_over(ours)
        for n, chunk in enumerate(chunks):
            transport.write(chunk)
            if n % 100 == 0:
                await turns()
        transport.close()
        await within(protocol.lost)
        return await reader

    assert run(main()) == b"".join(chunks)


def test_writelines_sends_more_pieces_than_one_system_call_takes(run, sockets):
    ours, peer = sockets
    pieces = [bytes([n % 256]) for n in range(5000)]

    async def main():
        reader = in_thread(read_all, peer)
        transport, protocol = await transport_over(ours)
        transport.writelines(pieces)
        transport.writelines([])
        await until(lambda: transport.get_write_buffer_size() == 0)
        transport.close()
        await within(protocol.lost)
        return await reader

    assert run(main()) == b"".join(pieces)


BUFFERS_EMPTY_PIECES = "[memoryview(data) for data in list_of_data]" in inspect.getsource(
    asyncio.selector_events._SelectorSocketTransport.writelines
)


@pytest.mark.stock_differs(
    "an empty piece stays in its buffer for ever (cured in later releases)", when=BUFFERS_EMPTY_PIECES
)
def test_writelines_forgets_empty_pieces(run, sockets):
    ours, peer = sockets

    async def main():
        reader = in_thread(read_all, peer)
        transport, protocol = await transport_over(ours)
        transport.writelines([b"", b"the ", b"", b"end", b""])
        transport.close()
        try:
            await within(protocol.lost, 1)
        except TimeoutError:
            transport.abort()
            await reader
            raise
        return await reader

    assert run(main()) == b"the end"
