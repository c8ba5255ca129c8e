"""Reading from a transport: what a protocol gets and when, and what pausing and closing keep from it."""

import asyncio
import socket
import sys

import pytest

from .support import BufferedRecorder, Recorder, fill, in_thread, transport_over, until, within


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
