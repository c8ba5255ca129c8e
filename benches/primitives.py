"""Rows of asyncio's other half: queues, locks, gather, timeouts, streams.

On ferrio's loop they are ferrio's own, on every other loop asyncio's: what a program pays as a whole.
"""

from benches.loops import namespace
from benches.row import row


def run(loop, main):
    loop.run_until_complete(main)


@row("async with Lock, free", 200_000)
def lock_free(loop, count):
    async def main():
        lock = namespace(loop).Lock()
        for _ in range(count):
            async with lock:
                pass

    run(loop, main())
