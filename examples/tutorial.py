"""Two tasks on one loop: awaited in turn, side by side, gathered, and a blocking call beside them.

A plain asyncio script. Run it with `python tutorial.py` or, unmodified, with `python -m ferrio tutorial.py`.
"""

import asyncio
import sys
import time


async def kettle(seconds, name):
    print(f"  {name}: on the stove")
    await asyncio.sleep(seconds)
    print(f"  {name}: boils after {seconds} s")
    return name


async def one_after_the_other():
    await kettle(2, "big kettle")
    await kettle(1, "small kettle")


async def as_tasks():
    big = asyncio.create_task(kettle(2, "big kettle"))
    small = asyncio.create_task(kettle(1, "small kettle"))
    await big
    await small


async def gathered():
    names = await asyncio.gather(kettle(2, "big kettle"), kettle(1, "small kettle"))
    print(f"  gather returned {names}")


async def beside_a_blocking_call():
    # time.sleep would stop the whole loop; in a thread it stops only that thread.
    await asyncio.gather(asyncio.to_thread(time.sleep, 2), kettle(1, "small kettle"))


async def main():
    sys.stdout.reconfigure(line_buffering=True)  # each line when it happens, even into a pipe
    loop = type(asyncio.get_running_loop())
    print(f"running on {loop.__module__}.{loop.__qualname__}")
    for part in one_after_the_other, as_tasks, gathered, beside_a_blocking_call:
        print(part.__name__.replace("_", " "))
        started = time.perf_counter()
        await part()
        print(f"  elapsed: {time.perf_counter() - started:.2f} s")


asyncio.run(main())
