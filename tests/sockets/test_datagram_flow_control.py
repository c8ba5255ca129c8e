"""Datagrams that the kernel has no room for."""

import asyncio

import pytest

from .endpoints import SENDS_EMPTY, closed, drain, stuffed


def test_what_the_kernel_has_no_room_for_waits_and_leaves_in_order(run, far):
    async def main(loop):
        transport, protocol = await stuffed(loop, far)
        numbers = [b"%d" % number for number in range(100)]
        for number in numbers:
            transport.sendto(number)
        received = []
        while numbers[-1] not in received:
            received += drain(far)
            await asyncio.sleep(0)
        assert received[-len(numbers) :] == numbers
        await closed(transport)

    run(main)


def test_nothing_is_counted_once_all_has_left(run_on_ferrio, far):
    # asyncio 3.13.0 adds the headers and never takes them off again: no oracle here.
    async def main(loop):
        transport, protocol = await stuffed(loop, far)
        transport.sendto(b"last")
        received = []
        while b"last" not in received:
            received += drain(far)
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() == 0
        await closed(transport)

    run_on_ferrio(main)


def test_the_queued_size_counts_headers_where_asyncio_does(run, far):
    async def main(loop):
        transport, protocol = await stuffed(loop, far)
        header = 8 if SENDS_EMPTY else 0
        assert transport.get_write_buffer_size() == 100 + header
        transport.sendto(b"12345")
        assert transport.get_write_buffer_size() == 105 + 2 * header
        transport.abort()
        await protocol.until("lost")

    run(main)


def test_a_queued_bytearray_may_be_changed(run, far):
    async def main(loop):
        transport, _ = await stuffed(loop, far)
        data = bytearray(b"before")
        transport.sendto(data)
        data[:] = b"after!"
        received = []
        while b"before" not in received:
            received += drain(far)
            await asyncio.sleep(0)
        await closed(transport)

    run(main)


def test_the_protocol_is_paused_and_resumed(run, far):
    async def main(loop):
        transport, protocol = await stuffed(loop, far)
        transport.set_write_buffer_limits(high=1000, low=200)
        assert transport.get_write_buffer_limits() == (200, 1000)
        while transport.get_write_buffer_size() <= 1000:
            assert ("pause",) not in protocol.events
            transport.sendto(bytes(100))
        assert protocol.events[-1] == ("pause",)
        while ("resume",) not in protocol.events:
            drain(far)
            await asyncio.sleep(0)
        assert protocol.events.count(("pause",)) == 1
        assert transport.get_write_buffer_size() <= 200
        await closed(transport)

    run(main)


def test_lowering_the_limits_pauses_at_once(run, far):
    async def main(loop):
        transport, protocol = await stuffed(loop, far)
        transport.set_write_buffer_limits(high=0)
        assert protocol.events[-1] == ("pause",)
        for high, low in [(1, 2), (-1, None), (None, -1)]:
            with pytest.raises(ValueError, match="must be >= low"):
                transport.set_write_buffer_limits(high, low)
        transport.abort()
        await protocol.until("lost")

    run(main)
