"""From `connection_made` to `connection_lost`: what a protocol may rely on, and what a transport takes from its user."""

import asyncio
import inspect
import logging
import os
import socket
import sys
import weakref

import pytest

from .support import (
    LOCALHOST,
    BufferedRecorder,
    Recorder,
    fill,
    in_thread,
    read_all,
    read_exactly,
    reset,
    transport_over,
    turns,
    until,
    within,
)

# connection_lost


def test_connection_lost_is_never_called_inside_close(run, sockets):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        transport.close()
        assert "connection_lost" not in protocol.names
        assert await within(protocol.lost) is None

    run(main())


def test_connection_lost_is_never_called_inside_abort(run, sockets):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        transport.abort()
        assert "connection_lost" not in protocol.names
        assert await within(protocol.lost) is None

    run(main())


def test_connection_lost_is_never_called_inside_write(run, sockets):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        transport.pause_reading()  # So that writing is what finds out.
        reset(sockets[1])
        for _ in range(5):
            before = list(protocol.names)
            transport.write(b"x")
            assert protocol.names == before
            await asyncio.sleep(0.005)
        assert isinstance(await within(protocol.lost), OSError)

    run(main())


def test_connection_lost_arrives_once_after_buffered_data(run, sockets):
    ours, peer = sockets
    size = 8 << 20

    async def main():
        transport, protocol = await transport_over(ours)
        transport.write(bytes(size))
        assert transport.get_write_buffer_size() > 0
        transport.close()
        await turns(5)
        assert "connection_lost" not in protocol.names
        assert len(await in_thread(read_all, peer)) == size
        await within(protocol.lost)
        transport.close()
        await turns(5)
        assert protocol.names.count("connection_lost") == 1
        assert protocol.events[-1] == ("connection_lost", None)

    run(main())


@pytest.mark.parametrize("endings", [("close", "close"), ("close", "abort"), ("abort", "abort"), ("abort", "close")])
def test_connection_lost_arrives_once_however_often_the_end_is_asked_for(run, sockets, endings):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        for ending in endings:
            getattr(transport, ending)()
        await within(protocol.lost)
        await turns(5)
        transport.close()
        await turns(5)
        assert protocol.names == ["connection_made", "connection_lost"]

    run(main())


def test_abort_drops_buffered_data(run, sockets):
    ours, peer = sockets
    size = 32 << 20

    async def main():
        transport, protocol = await transport_over(ours)
        transport.write(bytes(size))
        transport.abort()
        assert await within(protocol.lost) is None
        assert transport.get_write_buffer_size() == 0
        assert len(await in_thread(read_all, peer)) < size

    run(main())


def test_connection_lost_after_the_peer_left_comes_after_eof_received(run, sockets):
    ours, peer = sockets

    async def main():
        _, protocol = await transport_over(ours)
        peer.send(b"last words")
        peer.close()
        assert await within(protocol.lost) is None
        assert protocol.events == [
            ("connection_made",),
            ("data_received", b"last words"),
            ("eof_received",),
            ("connection_lost", None),
        ]

    run(main())


def test_connection_lost_tells_the_error_after_a_reset(run, sockets):
    async def main():
        _, protocol = await transport_over(sockets[0])
        reset(sockets[1])
        assert isinstance(await within(protocol.lost), ConnectionResetError)
        assert protocol.names == ["connection_made", "connection_lost"]

    run(main())


def test_no_connection_lost_without_connection_made(run, loop, server_tls):
    """A TLS handshake that fails: the protocol never hears of that connection, neither its start nor its end."""
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    async def main():
        server = await loop.create_server(factory, LOCALHOST, 0, ssl=server_tls)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.settimeout(5)
            client.send(b"this is no TLS record at all\r\n")
            await in_thread(read_all, client)
        await asyncio.sleep(0.05)
        server.close()
        await server.wait_closed()

    run(main())
    assert [protocol.events for protocol in protocols] == [[]]


def test_the_socket_is_closed_by_the_time_connection_lost_has_run(run, sockets):
    ours, _ = sockets

    async def main():
        transport, protocol = await transport_over(ours)
        transport.close()
        assert transport.is_closing()
        await within(protocol.lost)
        await turns()
        assert ours.fileno() == -1

    run(main())


def test_state_set_after_close_is_there_when_connection_lost_comes(run, sockets):
    class Protocol(Recorder):
        reason = None

        def connection_lost(self, exc):
            super().connection_lost(self.reason)

    async def main():
        transport, protocol = await transport_over(sockets[0], Protocol)
        transport.close()
        protocol.reason = "set after close()"
        assert await within(protocol.lost) == "set after close()"

    run(main())


# writing


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


# half close


def test_write_eof_flushes_then_shuts_the_writing_side_only(run, sockets):
    ours, peer = sockets
    size = 4 << 20

    async def main():
        transport, protocol = await transport_over(ours)
        assert transport.can_write_eof() is True
        transport.write(bytes(size))
        transport.write_eof()
        assert len(await in_thread(read_all, peer)) == size
        peer.send(b"still listening?")
        await until(lambda: protocol.data)
        assert protocol.data == b"still listening?"
        with pytest.raises(RuntimeError):
            transport.write(b"x")
        transport.close()
        await within(protocol.lost)

    run(main())


def test_eof_received_returning_true_keeps_the_writing_side(run, sockets):
    ours, peer = sockets

    class Protocol(Recorder):
        def eof_received(self):
            super().eof_received()
            return True

    async def main():
        transport, protocol = await transport_over(ours, Protocol)
        peer.send(b"question")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: "eof_received" in protocol.names)
        await turns(5)
        assert not transport.is_closing()
        transport.write(b"answer")
        transport.close()
        assert await in_thread(read_all, peer) == b"answer"
        await within(protocol.lost)
        assert protocol.names == ["connection_made", "data_received", "eof_received", "connection_lost"]

    run(main())


@pytest.mark.parametrize("answer", [None, False, 0, ""])
def test_eof_received_returning_false_closes_the_transport_after_its_buffer(run, sockets, answer):
    ours, peer = sockets
    size = 4 << 20

    class Protocol(Recorder):
        def eof_received(self):
            super().eof_received()
            return answer

    async def main():
        transport, protocol = await transport_over(ours, Protocol)
        transport.write(bytes(size))
        peer.shutdown(socket.SHUT_WR)
        assert len(await in_thread(read_all, peer)) == size
        assert await within(protocol.lost) is None

    run(main())


# reading


def test_data_has_its_own_size_and_stays_as_it_came(run, sockets):
    ours, peer = sockets
    bulk = bytes(n * 7 % 251 for n in range(1_500_000))
    messages = [b"small", bulk, b"small again", bulk[:100_000], bulk[:20_000], b"x", b"y" * 1_000, bulk, b"the end"]

    pieces = []

    class Protocol(Recorder):
        def data_received(self, data):
            pieces.append(data)

    async def main():
        transport, protocol = await transport_over(ours, Protocol)
        expected = b""
        for message in messages:
            expected += message
            sending = in_thread(peer.sendall, message)
            await until(lambda: sum(map(len, pieces)) == len(expected))
            await sending
        # No piece is changed by those that came after it, or takes more memory than its bytes do.
        assert b"".join(pieces) == expected
        assert all(type(piece) is bytes for piece in pieces)
        assert [sys.getsizeof(piece) for piece in pieces] == [sys.getsizeof(b"") + len(piece) for piece in pieces]
        # However much waits, others get their turn soon.
        assert max(map(len, pieces)) <= 256 * 1024
        transport.close()
        await within(protocol.lost)

    run(main())


@pytest.mark.parametrize("size", [0, 10, 131_072, 262_144, 1_000_000])
def test_the_end_of_the_stream_comes_after_all_its_data(run, sockets, size):
    ours, peer = sockets
    message = bytes(n * 7 % 251 for n in range(size))

    def send():
        peer.sendall(message)
        peer.shutdown(socket.SHUT_WR)

    async def main():
        _transport, protocol = await transport_over(ours)
        await in_thread(send)
        assert await within(protocol.lost) is None
        assert protocol.data == message
        assert protocol.names[-2:] == ["eof_received", "connection_lost"]
        assert protocol.names.count("eof_received") == 1
        assert all(data for _, data in (event for event in protocol.events if event[0] == "data_received"))

    run(main())


def test_two_connections_that_flood_take_turns(run):
    calls = []

    class Protocol(Recorder):
        def data_received(self, data):
            calls.append(self)
            if len(calls) >= 64:
                self.transport.pause_reading()

    async def main():
        ends = [socket.socketpair() for _ in range(2)]
        protocols = []
        for ours, peer in ends:
            peer.setblocking(False)
            _, protocol = await transport_over(ours, Protocol)
            protocols.append(protocol)

        def refill():
            for _, peer in ends:
                fill(peer)
            if len(calls) < 64:
                asyncio.get_running_loop().call_soon(refill)

        refill()
        await until(lambda: len(calls) >= 64)
        for protocol in protocols:
            assert calls.count(protocol) >= 16
            protocol.transport.abort()
            await within(protocol.lost)
        for _, peer in ends:
            peer.close()

    run(main())


def test_pause_reading_inside_data_received_stops_before_the_next_read(run, sockets):
    ours, peer = sockets
    message = bytes(n * 7 % 251 for n in range(1_000_000))

    class Protocol(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async def main():
        transport, protocol = await transport_over(ours, Protocol)
        sending = in_thread(peer.sendall, message)
        while len(protocol.data) < len(message):
            await until(lambda: not transport.is_reading())
            calls = len(protocol.events)
            await asyncio.sleep(0.005)
            assert len(protocol.events) == calls, "data came though reading was paused"
            transport.resume_reading()
        await sending
        assert protocol.data == message
        transport.close()
        await within(protocol.lost)

    run(main())


def test_pause_reading_inside_buffer_updated_stops_before_the_next_read(run, sockets):
    ours, peer = sockets

    class Protocol(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.pause_reading()

    async def main():
        transport, protocol = await transport_over(ours, lambda: Protocol(size=10))
        peer.send(b"0123456789abcdefghij!")
        for expected in (10, 20, 21):
            await until(lambda: len(protocol.data) == expected)
            await asyncio.sleep(0.01)
            assert len(protocol.data) == expected
            transport.resume_reading()
        assert protocol.data == b"0123456789abcdefghij!"
        transport.close()
        await within(protocol.lost)

    run(main())


def test_pause_reading_inside_get_buffer_loses_nothing(run, sockets):
    ours, peer = sockets

    class Protocol(BufferedRecorder):
        def get_buffer(self, sizehint):
            self.transport.pause_reading()
            return super().get_buffer(sizehint)

    async def main():
        transport, protocol = await transport_over(ours, lambda: Protocol(size=10))
        peer.send(b"0123456789abcdefghij!")
        while len(protocol.data) < 21:
            await until(lambda: not transport.is_reading())
            calls = len(protocol.events)
            await asyncio.sleep(0.01)
            assert len(protocol.events) == calls
            transport.resume_reading()
        assert protocol.data == b"0123456789abcdefghij!"
        transport.close()
        await within(protocol.lost)

    run(main())


def test_the_end_of_the_stream_is_not_heard_while_reading_is_paused(run, sockets):
    ours, peer = sockets

    async def main():
        transport, protocol = await transport_over(ours)
        transport.pause_reading()
        peer.send(b"x")
        peer.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.02)
        assert protocol.names == ["connection_made"]
        transport.resume_reading()
        await within(protocol.lost)
        assert protocol.names == ["connection_made", "data_received", "eof_received", "connection_lost"]

    run(main())


def test_pausing_and_resuming_reading_twice_is_harmless(run, sockets):
    ours, peer = sockets

    async def main():
        transport, protocol = await transport_over(ours)
        for _ in range(2):
            transport.pause_reading()
        assert transport.is_reading() is False
        for _ in range(2):
            transport.resume_reading()
        assert transport.is_reading() is True
        peer.send(b"x")
        await until(lambda: protocol.data == b"x")
        transport.close()
        assert transport.is_reading() is False
        transport.pause_reading()
        transport.resume_reading()
        await within(protocol.lost)

    run(main())


def test_no_data_arrives_after_close(run, sockets):
    ours, peer = sockets

    class Protocol(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.close()

    async def main():
        _, protocol = await transport_over(ours, Protocol)
        peer.send(b"x" * 1000)
        await until(lambda: protocol.data)
        await within(protocol.lost)
        assert protocol.names == ["connection_made", "data_received", "connection_lost"]

    run(main())


def test_a_buffered_protocol_gets_every_byte_whatever_the_size_of_its_buffer(run, sockets):
    ours, peer = sockets
    data = bytes(n * 7 % 251 for n in range(300_000))

    async def main():
        sending = in_thread(peer.sendall, data)
        transport, protocol = await transport_over(ours, lambda: BufferedRecorder(size=997))
        await until(lambda: len(protocol.data) == len(data))
        await sending
        peer.shutdown(socket.SHUT_WR)
        await within(protocol.lost)
        assert protocol.data == data
        assert max(n for name, n in protocol.events[1:-2]) <= 997
        assert [name for name, *_ in protocol.events[-2:]] == ["eof_received", "connection_lost"]

    run(main())


# flow control


def test_pause_and_resume_writing_come_in_pairs(run, sockets):
    ours, peer = sockets

    async def main():
        transport, protocol = await transport_over(ours)
        for _ in range(3):
            size = 0
            while transport.get_write_buffer_size() <= 65536:
                transport.write(bytes(100_000))
                size += 100_000
            transport.write(bytes(100_000))
            await in_thread(read_exactly, peer, size + 100_000)
            await until(lambda: transport.get_write_buffer_size() == 0)
        transport.close()
        await within(protocol.lost)
        assert protocol.names == ["connection_made"] + ["pause_writing", "resume_writing"] * 3 + ["connection_lost"]

    run(main())


def test_the_default_water_marks_are_16_and_64_kibibytes(run, sockets):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.close()
        await within(protocol.lost)

    run(main())


def test_writing_pauses_above_the_high_mark_and_resumes_at_the_low_one(run, sockets):
    ours, peer = sockets

    class Protocol(Recorder):
        def pause_writing(self):
            self.paused_at = self.transport.get_write_buffer_size()
            super().pause_writing()

        def resume_writing(self):
            self.resumed_at = self.transport.get_write_buffer_size()
            super().resume_writing()

    async def main():
        transport, protocol = await transport_over(ours, Protocol)
        transport.set_write_buffer_limits(high=3_000_000, low=1_000_000)
        assert transport.get_write_buffer_limits() == (1_000_000, 3_000_000)
        sent = 0
        while transport.get_write_buffer_size() == 0:
            transport.write(bytes(1000))
            sent += 1000
        sent_until_full = sent
        while "pause_writing" not in protocol.names:
            transport.write(bytes(1000))
            sent += 1000
        assert 3_000_000 < protocol.paused_at <= 3_001_000
        assert sent > sent_until_full
        received = 0
        while "resume_writing" not in protocol.names:
            before = transport.get_write_buffer_size()
            assert before > 1_000_000
            received += len(await in_thread(peer.recv, 65536))
            await turns(2)
        assert protocol.resumed_at <= 1_000_000
        transport.abort()
        await within(protocol.lost)

    run(main())


def test_resume_writing_never_comes_after_an_abort(run, sockets):
    ours, peer = sockets

    async def main():
        transport, protocol = await transport_over(ours)
        transport.write(bytes(8 << 20))
        transport.abort()
        await within(protocol.lost)
        await in_thread(read_all, peer)
        await turns(5)
        assert protocol.names == ["connection_made", "pause_writing", "connection_lost"]

    run(main())


def test_resume_writing_never_comes_after_connection_lost(run, sockets):
    ours, peer = sockets

    async def main():
        transport, protocol = await transport_over(ours)
        transport.write(bytes(8 << 20))
        transport.close()
        await in_thread(read_all, peer)
        await within(protocol.lost)
        await turns(5)
        assert protocol.names[-1] == "connection_lost"
        assert protocol.names.count("resume_writing") <= protocol.names.count("pause_writing") == 1

    run(main())


def test_lowering_the_high_mark_below_what_is_buffered_pauses_at_once(run, sockets):
    async def main():
        transport, protocol = await transport_over(sockets[0])
        transport.set_write_buffer_limits(high=64 << 20)
        transport.write(bytes(8 << 20))
        assert "pause_writing" not in protocol.names
        transport.set_write_buffer_limits(high=1000)
        assert "pause_writing" in protocol.names
        transport.abort()
        await within(protocol.lost)

    run(main())


# set_protocol


@pytest.mark.parametrize("second", [Recorder, BufferedRecorder])
def test_set_protocol_takes_effect_with_the_next_event(run, sockets, second):
    ours, peer = sockets
    successors = []

    class First(Recorder):
        def data_received(self, data):
            super().data_received(data)
            successors.append(second())
            self.transport.set_protocol(successors[0])

    async def main():
        transport, first = await transport_over(ours, First)
        peer.send(b"upgrade")
        await until(lambda: successors)
        assert transport.get_protocol() is successors[0]
        peer.send(b"hello")
        await until(lambda: successors[0].data == b"hello")
        peer.close()
        await within(successors[0].lost)
        assert first.events == [("connection_made",), ("data_received", b"upgrade")]
        assert [name for name, *_ in successors[0].events][-2:] == ["eof_received", "connection_lost"]

    run(main())


def test_set_protocol_from_a_buffered_protocol_to_a_plain_one(run, sockets):
    ours, peer = sockets

    async def main():
        transport, first = await transport_over(ours, BufferedRecorder)
        peer.send(b"first")
        await until(lambda: first.data)
        second = Recorder()
        transport.set_protocol(second)
        peer.send(b"second")
        await until(lambda: second.data)
        assert (first.data, second.data) == (b"first", b"second")
        transport.close()
        await within(second.lost)

    run(main())


def test_flow_control_goes_to_the_protocol_set_last(run, sockets):
    ours, peer = sockets

    async def main():
        transport, first = await transport_over(ours)
        second = Recorder()
        transport.set_protocol(second)
        transport.write(bytes(8 << 20))
        await in_thread(read_exactly, peer, 8 << 20)
        await until(lambda: second.names == ["pause_writing", "resume_writing"])
        transport.close()
        await within(second.lost)
        assert first.names == ["connection_made"]

    run(main())


def test_methods_replaced_on_the_protocol_instance_are_called(run, sockets):
    """A transport that caches bound methods has to look again."""
    ours, peer = sockets
    got = []

    async def main():
        transport, protocol = await transport_over(ours)
        peer.send(b"a")
        await until(lambda: protocol.data)
        protocol.data_received = got.append
        peer.send(b"b")
        await until(lambda: got)
        assert (protocol.data, got) == (b"a", [b"b"])
        transport.close()
        await within(protocol.lost)

    run(main())


# servers


def test_closing_a_server_stops_listening_and_leaves_its_connections_alone(run, loop):
    protocols = []

    class Echo(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            protocols.append(self)

        def data_received(self, data):
            self.transport.write(data)

    async def main():
        server = await loop.create_server(Echo, LOCALHOST, 0)
        address = server.sockets[0].getsockname()
        with socket.create_connection(address) as client:
            client.settimeout(5)
            await until(lambda: protocols)
            assert server.is_serving()
            server.close()
            assert not server.is_serving()
            assert len(server.sockets) == 0
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            await asyncio.sleep(0.05)
            client.send(b"alive?")
            assert await in_thread(client.recv, 100) == b"alive?"
        await within(protocols[0].lost)
        await within(server.wait_closed())

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.close_clients came with 3.13")
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
def test_a_server_ends_its_connections_when_told_to(run, loop, how):
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    async def main():
        server = await loop.create_server(factory, LOCALHOST, 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.settimeout(5)
            await until(lambda: protocols and protocols[0].made.done())
            protocols[0].transport.write(b"bye")
            getattr(server, how)()
            assert await within(protocols[0].lost) is None
            assert await in_thread(client.recv, 100) == b"bye"
        server.close()
        await within(server.wait_closed())

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.close_clients came with 3.13")
def test_a_server_ends_its_own_connections_and_no_others(run, loop):
    protocols = {"ended": [], "kept": []}

    def factory(name):
        def make():
            protocols[name].append(Recorder())
            return protocols[name][-1]

        return make

    async def main():
        ended, kept = [await loop.create_server(factory(name), LOCALHOST, 0) for name in protocols]
        addresses = [server.sockets[0].getsockname() for server in (ended, kept)]
        with socket.create_connection(addresses[0]), socket.create_connection(addresses[1]) as client:
            client.settimeout(5)
            await until(lambda: all(made and made[0].made.done() for made in protocols.values()))
            ended.close_clients()
            assert await within(protocols["ended"][0].lost) is None
            protocols["kept"][0].transport.write(b"still here")
            assert await in_thread(client.recv, 100) == b"still here"
            assert not protocols["kept"][0].lost.done()
        await within(protocols["kept"][0].lost)
        for server in (ended, kept):
            server.close()
            await within(server.wait_closed())

    run(main())


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX], ids=lambda family: family.name)
def test_the_peers_address_is_known_after_the_peer_has_gone(run, loop, tmp_path, family):
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    async def main():
        if family == socket.AF_UNIX:
            own, address = str(tmp_path / "client"), str(tmp_path / "server")
            server = await loop.create_unix_server(factory, address)
        else:
            host = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}[family]
            own = (host, 0)
            server = await loop.create_server(factory, host, 0)
            address = server.sockets[0].getsockname()
        with socket.socket(family) as client:
            client.bind(own)
            client.connect(address)
            expected = client.getsockname()
            await until(lambda: protocols and protocols[0].made.done())
        await within(protocols[0].lost)
        transport = protocols[0].transport
        assert transport.get_extra_info("peername") == expected
        assert transport.get_extra_info("sockname") == address
        server.close()
        await within(server.wait_closed())

    run(main())


def test_wait_closed_of_a_server_waits_for_its_connections(run, loop):
    """Since 3.12.1; before, it returned at once when the server was closed already."""
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    async def main():
        server = await loop.create_server(factory, LOCALHOST, 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            await until(lambda: protocols and protocols[0].made.done())
            server.close()
            waiting = asyncio.ensure_future(server.wait_closed())
            await asyncio.sleep(0.02)
            assert waiting.done() is (sys.version_info < (3, 12, 1))
        await within(waiting)
        await within(protocols[0].lost)

    run(main())


# handles


@pytest.mark.parametrize("arguments", [(), (1,), (1, 2), (1, 2, 3, 4, 5)], ids=len)
@pytest.mark.parametrize("how", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_cancel_works_on_every_handle(loop, how, arguments):
    ran = []
    schedule = {
        "call_soon": loop.call_soon,
        "call_soon_threadsafe": loop.call_soon_threadsafe,
        "call_later": lambda *a: loop.call_later(0.001, *a),
        "call_at": lambda *a: loop.call_at(loop.time() + 0.001, *a),
    }[how]
    handle = schedule(lambda *a: ran.append(a), *arguments)
    assert handle.cancelled() is False
    handle.cancel()
    handle.cancel()
    assert handle.cancelled() is True
    kept = schedule(lambda *a: ran.append(("kept", *a)), *arguments)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert ran == [("kept", *arguments)]
    assert kept.cancelled() is False


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("how", ["call_soon", "call_soon_threadsafe", "call_later", "call_later inf"])
def test_cancel_drops_callback_and_arguments(loop, how, count):
    class Thing:
        def __call__(self, *args):
            pass

    things = [Thing() for _ in range(count + 1)]
    dead = [weakref.ref(thing) for thing in things]
    if how.startswith("call_later"):
        handle = loop.call_later(float("inf") if "inf" in how else 60, *things)
    else:
        handle = getattr(loop, how)(*things)
    things.clear()
    assert all(ref() is not None for ref in dead)
    handle.cancel()
    assert [ref() for ref in dead] == [None] * (count + 1)


# the poller


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
