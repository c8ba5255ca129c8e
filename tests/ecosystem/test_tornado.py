"""Tornado, whose IOLoop is a face of the running asyncio loop."""

import asyncio
import datetime
import os

import pytest
from tornado import httpclient, ioloop, iostream, locks, process, tcpclient, tcpserver, web, websocket
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

BODY = os.urandom(2_000_000)


class Echo(web.RequestHandler):
    async def post(self):
        self.write(self.request.body)


class Stream(web.RequestHandler):
    async def get(self):
        for start in range(0, len(BODY), 100_000):
            self.write(BODY[start : start + 100_000])
            await self.flush()


class LoopName(web.RequestHandler):
    def get(self):
        loop = type(ioloop.IOLoop.current().asyncio_loop)
        self.write(f"{loop.__module__}.{loop.__qualname__}")


class WebSocket(websocket.WebSocketHandler):
    async def on_message(self, message):
        await self.write_message(message, binary=isinstance(message, bytes))


@pytest.fixture(params=["plain", "TLS"])
def exchange(request, run, certificates):
    """Runs `client(address, options)` while a server serves."""
    tls = request.param == "TLS"

    def exchange(client):
        async def main():
            routes = [("/echo", Echo), ("/stream", Stream), ("/loop", LoopName), ("/websocket", WebSocket)]
            server = HTTPServer(web.Application(routes), ssl_options=certificates.server_context() if tls else None)
            sock, port = bind_unused_port()
            server.add_sockets([sock])
            try:
                options = {"ca_certs": certificates.authority} if tls else {}
                await client(f"{'s' if tls else ''}://localhost:{port}", options)
            finally:
                server.stop()
                await server.close_all_connections()

        run(main())

    return exchange


def test_http(exchange, loop_name):
    async def main(address, options):
        client = httpclient.AsyncHTTPClient(force_instance=True)
        assert (await client.fetch(f"http{address}/loop", **options)).body.decode() == loop_name
        assert (await client.fetch(f"http{address}/stream", **options)).body == BODY
        headers = {"Content-Type": "application/octet-stream"}
        response = await client.fetch(f"http{address}/echo", method="POST", body=BODY, headers=headers, **options)
        assert response.body == BODY
        with pytest.raises(httpclient.HTTPClientError):
            await client.fetch(f"http{address}/nothing", **options)
        client.close()

    exchange(main)


def test_websocket(exchange):
    async def main(address, options):
        request = httpclient.HTTPRequest(f"ws{address}/websocket", **options)
        client = await websocket.websocket_connect(request)
        for message in "text", BODY:
            await client.write_message(message, binary=isinstance(message, bytes))
            assert await client.read_message() == message
        client.close()
        assert await client.read_message() is None

    exchange(main)


def test_tcp_streams(run):
    class Server(tcpserver.TCPServer):
        async def handle_stream(self, stream, address):
            with pytest.raises(iostream.StreamClosedError):
                while True:
                    await stream.write((await stream.read_until(b"\n")).upper())

    async def main():
        server = Server()
        sock, port = bind_unused_port()
        server.add_socket(sock)
        stream = await tcpclient.TCPClient().connect("localhost", port)
        for _ in range(100):
            await stream.write(b"line\n")
            assert await stream.read_until(b"\n") == b"LINE\n"
        stream.close()
        server.stop()

    run(main())


def test_callbacks_and_locks(run):
    async def main():
        ticks = []
        done = locks.Event()

        def tick():
            ticks.append(None)
            if len(ticks) == 5:
                done.set()

        timer = ioloop.PeriodicCallback(tick, 5)
        timer.start()
        await done.wait(timeout=datetime.timedelta(seconds=10))
        timer.stop()
        assert await ioloop.IOLoop.current().run_in_executor(None, sum, [1, 2, 3]) == 6

    run(main())


def test_subprocess(run):
    async def main():
        child = process.Subprocess(["cat"], stdin=process.Subprocess.STREAM, stdout=process.Subprocess.STREAM)
        await child.stdin.write(b"through a pipe\n")
        assert await child.stdout.read_until(b"\n") == b"through a pipe\n"
        child.stdin.close()
        await child.stdout.read_until_close()
        assert child.proc.wait() == 0

    run(main())


def test_an_ioloop_made_of_a_loop(factory, loop_class):
    loop = ioloop.IOLoop(asyncio_loop=factory(), make_current=False)

    async def main():
        return type(asyncio.get_running_loop())

    assert loop.run_sync(main) is loop_class
    loop.close()
