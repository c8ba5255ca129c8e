"""Rows whose process is a client, of a server that costs next to nothing."""

import asyncio

from benches import processes
from benches.row import CPU, row


@row("aiohttp client, hello x 64", 1_500, CPU, "us", quick=True)
def aiohttp_client(loop, count):
    import aiohttp

    async def ask(session, url, times):
        for _ in range(times):
            async with session.get(url) as response:
                assert await response.text() == "Hello\n"

    async def main(port):
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}/"
            await asyncio.gather(*(ask(session, url, count // 64) for _ in range(64)))

    with processes.bare("http", "tcp:127.0.0.1:0", processes.CLIENT_CPU) as server:
        loop.run_until_complete(main(server["address"].rpartition(":")[2]))
