"""Asks two questions at a terminal while a task ticks beside them."""

import asyncio
import importlib
import os

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.patch_stdout import patch_stdout


async def tick(ticks):
    while True:
        ticks.append(None)
        await asyncio.sleep(0.01)


async def main():
    loop = type(asyncio.get_running_loop())
    print(f"loop: {loop.__module__}.{loop.__qualname__}")
    ticks = []
    ticking = asyncio.create_task(tick(ticks))
    session = PromptSession(
        completer=WordCompleter(["ferrio"]),
        complete_while_typing=False,
        bottom_toolbar=lambda: f"{get_app().output.get_size().columns} columns",
    )
    with patch_stdout():
        name = await session.prompt_async("name? ")
        before = len(ticks)
        word = await session.prompt_async("word? ")
    ticking.cancel()
    print(f"answers: {name!r} {word!r}, ticked: {len(ticks) > before > 0}")
    try:
        await session.prompt_async("last? ")
    except KeyboardInterrupt:
        print("interrupted")


module, _, attribute = os.environ.get("FERRIO_TEST_FACTORY", "ferrio:new_event_loop").partition(":")
with asyncio.Runner(loop_factory=getattr(importlib.import_module(module), attribute)) as runner:
    runner.run(main())
