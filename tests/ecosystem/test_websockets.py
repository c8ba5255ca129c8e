"""The websockets library, server and client on one loop."""

import asyncio
import contextlib
import os

import pytest
from websockets.asyncio.client import connect, unix_connect
from websockets.asyncio.server import broadcast, serve, unix_serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK


@pytest.fixture
def echo(check_loop):
    async def echo(connection):
        check_loop()
        async for message in connection:
            await connection.send(message)

    return echo


def address(server, scheme="ws"):
    return f"{scheme}://localhost:{next(iter(server.sockets)).getsockname()[1]}/"


def test_messages_of_every_size(run, echo):
    async def main():
        async with (
            serve(echo, "localhost", 0, max_size=None) as server,
            connect(address(server), max_size=None) as client,
        ):
            for message in "", "text", b"bytes", os.urandom(100_000), os.urandom(5_000_000):
                await client.send(message)
                assert await client.recv() == message
            await (await client.ping())
        assert client.close_code == 1000

    run(main())


def test_tls(run, echo, certificates):
    async def main():
        async with (
            serve(echo, "localhost", 0, ssl=certificates.server_context()) as server,
            connect(address(server, "wss"), ssl=certificates.client_context()) as client,
        ):
            message = os.urandom(500_000)
            await client.send(message)
            assert await client.recv() == message

    run(main())


def test_unix_socket(run, echo, tmp_path):
    async def main():
        path = str(tmp_path / "websocket.sock")
        async with unix_serve(echo, path), unix_connect(path) as client:
            await client.send("over a path")
            assert await client.recv() == "over a path"

    run(main())


def test_broadcast(run):
    async def main():
        async def hold(connection):
            await connection.wait_closed()

        async with serve(hold, "localhost", 0) as server, contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(address(server))) for _ in range(50)]
            broadcast(server.connections, "to all")
            assert await asyncio.gather(*(client.recv() for client in clients)) == ["to all"] * 50

    run(main())


def test_close_codes_and_lost_connections(run):
    async def main():
        async def leave(connection):
            message = await connection.recv()
            if message == "politely":
                await connection.close(4321, "enough")
            else:
                connection.transport.abort()

        async with serve(leave, "localhost", 0) as server:
            async with connect(address(server)) as client:
                await client.send("politely")
                with pytest.raises((ConnectionClosedOK, ConnectionClosedError)) as closed:
                    await client.recv()
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4321, "enough")
            async with connect(address(server)) as client:
                await client.send("rudely")
                with pytest.raises(ConnectionClosedError):
                    await client.recv()

    run(main())


def test_a_slow_reader_holds_back_the_sender(run):
    async def main():
        count, sent = 500, 0

        async def flood(connection):
            nonlocal sent
            while sent < count:
                await connection.send(bytes(100_000))
                sent += 1

        async with (
            serve(flood, "localhost", 0, compression=None) as server,
            connect(address(server), max_queue=1) as client,
        ):
            await client.recv()
            await asyncio.sleep(0.5)
            held_back = sent
            await asyncio.sleep(0.2)
            assert sent == held_back < count
            for _ in range(count - 1):
                await client.recv()
            assert sent == count

    run(main())
