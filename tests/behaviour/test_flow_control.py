"""`pause_writing` and `resume_writing`: at which marks they come, and that they come in pairs."""

from .support import Recorder, in_thread, read_all, read_exactly, transport_over, turns, until, within


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
