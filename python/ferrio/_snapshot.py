"""What a loop leaves in its process's page for whoever looks: its tasks, and what each waits for."""

import asyncio
import json


def write(loop):
    """Write a snapshot of the loop."""
    tasks = [{"name": task.get_name(), "coro": task.get_coro().__qualname__} for task in asyncio.all_tasks(loop)]
    loop._write_snapshot(json.dumps({"tasks": tasks}).encode())
