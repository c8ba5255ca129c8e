"""aiohttp's server and client, against each other on one loop and as a program."""

import asyncio
import os
import signal

import aiohttp
import pytest
from aiohttp import web
from programs import Browser, connectable

BODY = os.urandom(2_000_000)


@pytest.fixture
def application(check_loop, tmp_path):
    """Handlers that check their loop."""
    file = tmp_path / "file.bin"
    file.write_bytes(BODY)
    routes = web.RouteTableDef()

    @routes.post("/echo")
    async def echo(request):
        check_loop()
        return web.Response(body=await request.read())

    @routes.post("/json")
    async def json(request):
        return web.json_response({"received": await request.json()})

    @routes.get("/file")
    async def send_file(request):
        return web.FileResponse(file)

    @routes.get("/stream")
    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(BODY), 100_000):
            await response.write(BODY[start : start + 100_000])
        return response

    @routes.get("/never")
    async def never(request):
        await asyncio.Future()

    @routes.get("/websocket")
    async def websocket(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            check_loop()
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        return socket

    application = web.Application(client_max_size=10_000_000)
    application.add_routes(routes)
    return application


@pytest.fixture(params=["plain", "TLS"])
def exchange(request, application, run, certificates):
    """Runs `client(session)` against the served application; the session knows the server's address."""
    tls = request.param == "TLS"

    def exchange(client):
        async def main():
            runner = web.AppRunner(application, shutdown_timeout=1)
            await runner.setup()
            site = web.TCPSite(runner, "localhost", 0, ssl_context=certificates.server_context() if tls else None)
            await site.start()
            port = site._server.sockets[0].getsockname()[1]
            connector = aiohttp.TCPConnector(ssl=certificates.client_context() if tls else True)
            address = f"{'https' if tls else 'http'}://localhost:{port}"
            try:
                async with aiohttp.ClientSession(address, connector=connector) as session:
                    return await client(session)
            finally:
                await runner.cleanup()

        return run(main())

    return exchange


def test_bodies_both_ways(exchange):
    async def client(session):
        async with session.post("/echo", data=BODY) as response:
            assert await response.read() == BODY
        async with session.post("/json", json={"numbers": [1, 2, 3]}) as response:
            assert await response.json() == {"received": {"numbers": [1, 2, 3]}}
        async with session.get("/stream") as response:
            assert await response.read() == BODY

    exchange(client)


def test_file_response(exchange):
    async def client(session):
        async with session.get("/file") as response:
            assert await response.read() == BODY
        async with session.get("/file", headers={"Range": "bytes=1000-1999"}) as response:
            assert response.status == 206
            assert await response.read() == BODY[1000:2000]

    exchange(client)


def test_many_requests_at_once(exchange):
    async def client(session):
        async def one(number):
            async with session.post("/json", json=number) as response:
                return (await response.json())["received"]

        assert await asyncio.gather(*map(one, range(200))) == list(range(200))

    exchange(client)


def test_client_timeout(exchange):
    async def client(session):
        with pytest.raises(TimeoutError):
            await session.get("/never", timeout=aiohttp.ClientTimeout(total=0.2))

    exchange(client)


def test_websocket(exchange):
    async def client(session):
        async with session.ws_connect("/websocket") as socket:
            await socket.send_str("text")
            assert await socket.receive_str(timeout=10) == "text"
            await socket.send_bytes(BODY)
            assert await socket.receive_bytes(timeout=10) == BODY
            assert await socket.close()
        assert socket.close_code == 1000

    exchange(client)


def test_unverified_certificate_is_refused(application, run, certificates):
    async def main():
        runner = web.AppRunner(application, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "localhost", 0, ssl_context=certificates.server_context())
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(f"https://localhost:{port}/")
        await runner.cleanup()

    run(main())


def test_run_app_stops_on_sigterm(program, port, loop_name):
    server = program("aiohttp_app.py", str(port))
    server.until(connectable(port))
    with Browser(port) as browser:
        assert browser.get("/").decode() == loop_name
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "cleaned up" in server.output
