"""A connection of which one side has ended: `write_eof`, and what `eof_received` answers."""

import socket

import pytest

from .support import Recorder, in_thread, read_all, transport_over, turns, until, within


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
