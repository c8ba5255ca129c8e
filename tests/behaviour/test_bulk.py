"""Much data: nothing of it is lost, changed or out of order, whichever way and in whatever pieces the loop receives it."""

import hashlib
import socket

import pytest

from .support import BufferedRecorder, Recorder, in_thread, reset, transport_over, until, within

KIB = 1024
PATTERN = bytes(range(251)) * 1045  # 256 KiB and a bit: a period of its own, so that a piece out of place shows.


class Digesting(Recorder):
    """Remembers how much has come, and its digest; answers each MiB with as many bytes as `answer` has."""

    def __init__(self, answer=b""):
        super().__init__()
        self.answer = answer
        self.digest = hashlib.sha256()
        self.received = 0

    def data_received(self, data):
        before = self.received >> 20
        self.digest.update(data)
        self.received += len(data)
        if self.answer and self.received >> 20 != before:
            self.transport.write(self.answer)


@pytest.mark.parametrize("answer", [b"", b".", bytes(32 * KIB)], ids=["none", "small", "large"])
def test_what_comes_in_bulk_is_whole_and_in_order_whatever_is_answered(run, sockets, answer):
    async def main():
        ours, peer = sockets
        _, protocol = await transport_over(ours, lambda: Digesting(answer))
        expected = hashlib.sha256()

        def send():
            for size in [64 * KIB] * 40 + [100, 256 * KIB, 17 * KIB] * 10 + [65536 - 1, 65536 + 1] * 20:
                peer.sendall(PATTERN[:size])
                expected.update(PATTERN[:size])
            peer.shutdown(socket.SHUT_WR)

        def drain():
            while peer.recv(1 << 20):
                pass

        drained = in_thread(drain)
        await within(in_thread(send))
        assert await within(protocol.lost) is None
        await within(drained)
        assert protocol.digest.hexdigest() == expected.hexdigest()

    run(main())


@pytest.mark.parametrize("waiting", [64 * KIB, 128 * KIB, 192 * KIB, 100 * KIB])
def test_a_reset_behind_bulk_comes_after_the_data_and_with_its_error(run, sockets, waiting):
    async def main():
        ours, peer = sockets
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        transport, protocol = await transport_over(ours)
        for count in range(1, 9):  # A flow of bulk, ...
            await within(in_thread(peer.sendall, PATTERN[: 128 * KIB]))
            await until(lambda: len(protocol.data) == count * 128 * KIB)
        transport.pause_reading()
        await within(in_thread(peer.sendall, PATTERN[:waiting]))
        reset(peer)  # ... whose last pieces and whose end are there at once.
        transport.resume_reading()
        error = await within(protocol.lost)
        assert isinstance(error, ConnectionResetError)
        assert protocol.names[-1] == "connection_lost"
        assert "eof_received" not in protocol.names
        assert len(protocol.data) == 8 * 128 * KIB + waiting
        assert protocol.data[-waiting:] == PATTERN[:waiting]

    run(main())


def test_a_reset_behind_bulk_reaches_the_protocol_that_has_taken_over(run, sockets):
    class Switching(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if self.other is not None:
                self.transport.set_protocol(self.other)

    async def main():
        ours, peer = sockets
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        transport, protocol = await transport_over(ours, Switching)
        protocol.other = None
        for count in range(1, 9):
            await within(in_thread(peer.sendall, PATTERN[: 128 * KIB]))
            await until(lambda: len(protocol.data) == count * 128 * KIB)
        transport.pause_reading()
        await within(in_thread(peer.sendall, PATTERN[: 128 * KIB]))
        reset(peer)
        protocol.other = BufferedRecorder()
        transport.resume_reading()
        assert isinstance(await within(protocol.other.lost), ConnectionResetError)
        assert len(protocol.data) + len(protocol.other.data) == 9 * 128 * KIB

    run(main())


def test_a_protocol_that_pauses_in_bulk_gets_no_more_until_it_resumes(run, sockets):
    class Pausing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async def main():
        ours, peer = sockets
        transport, protocol = await transport_over(ours, Pausing)
        sending = in_thread(peer.sendall, PATTERN * 8)
        while len(protocol.data) < 8 * len(PATTERN):
            count = len(protocol.events)
            transport.resume_reading()
            await until(lambda: len(protocol.events) > count)
            assert not transport.is_reading()
            assert len(protocol.events) == count + 1
        await within(sending)
        assert protocol.data == PATTERN * 8
        transport.abort()

    run(main())
