"""A loop and greenlets: callbacks that are switched out of."""

import asyncio
import gc

import greenlet


def test_a_loop_survives_a_greenlet_switch_out_of_a_callback(new_event_loop):
    """The stack below the callback is copied away and back: nothing may point into it."""
    order = []

    def deep(n):
        return n and deep(n - 1) + 1

    def leave_and_come_back(n, back):
        greenlet.getcurrent().parent.switch(n)
        order.append(n)
        back.set_result(None)

    async def main():
        loop = asyncio.get_running_loop()
        for n in range(20):
            back = loop.create_future()
            loop.call_soon(leave_and_come_back, n, back)
            await back
            await asyncio.sleep(0.0001)
        return "done"

    def run_loop():
        loop = new_event_loop()
        try:
            return loop.run_until_complete(main())
        finally:
            loop.close()

    inside = greenlet.greenlet(run_loop)
    answer = inside.switch()
    while not inside.dead:
        assert answer == len(order)
        # Another loop may run meanwhile, and the C stack is used for other things.
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        other = new_event_loop()
        other.call_soon(deep, 100)
        other.run_until_complete(asyncio.sleep(0.0001))
        other.close()
        asyncio._set_running_loop(running)
        gc.collect()
        answer = inside.switch()
    assert answer == "done"
    assert order == list(range(20))
