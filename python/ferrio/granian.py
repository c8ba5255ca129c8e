"""granian on ferrio's loop: ``python -m ferrio.granian app:app`` takes granian's own command line.

A program that starts ``granian.Granian`` itself imports this module first. Both leave ``--loop`` at ``auto``: granian's
workers import the main module again, and so find the loop registered.
"""

import asyncio

from granian import loops  # type: ignore

from .event_loop import EventLoop, new_event_loop


@loops.register("auto")
def build_loop() -> EventLoop:
    """A new loop, set as the current one of the worker's thread, as granian's own builders do."""
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


if __name__ == "__main__":
    from granian.cli import entrypoint  # type: ignore

    entrypoint()
