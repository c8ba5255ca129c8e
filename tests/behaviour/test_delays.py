"""Delays without end, below zero, and of no number."""

import asyncio
import contextlib

import pytest


@pytest.mark.parametrize("delay", [float("inf"), 1e300, 1e18, 1e10, 2**40, 2**63, 2**64])
def test_a_delay_for_ever_is_just_very_long(loop, run, delay):
    fired = []
    handles = [loop.call_later(delay, fired.append, 1), loop.call_at(loop.time() + delay, fired.append, 2)]

    async def main():
        sleeping = asyncio.ensure_future(asyncio.sleep(delay))
        waiting = asyncio.ensure_future(asyncio.wait_for(loop.create_future(), delay))
        await asyncio.sleep(0.01)
        assert not sleeping.done() and not waiting.done()
        for task in (sleeping, waiting):
            task.cancel()
        await asyncio.wait([sleeping, waiting])
        async with asyncio.timeout(delay):
            await asyncio.sleep(0.001)

    run(main())
    assert fired == []
    assert handles[0].when() >= loop.time() + 1e9
    for handle in handles:
        handle.cancel()


@pytest.mark.parametrize("delay", [-1, -0.0, -1e300, float("-inf"), -(2**64)])
def test_a_negative_delay_is_due_at_once(loop, run, delay):
    fired = []
    loop.call_later(delay, fired.append, 1)
    loop.call_at(delay, fired.append, 2)
    run(asyncio.sleep(0.005))
    assert sorted(fired) == [1, 2]


def test_a_delay_that_is_no_number_is_a_value_error_or_harmless(new_event_loop):
    with contextlib.closing(new_event_loop()) as loop:
        with contextlib.suppress(ValueError):
            loop.call_later(float("nan"), int)
            loop.call_later(0.01, loop.stop)
            loop.run_forever()
        assert not loop.is_running()
