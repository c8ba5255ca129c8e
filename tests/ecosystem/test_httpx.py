"""httpx's client against the standard library's threaded HTTP server, which knows nothing of loops."""

import asyncio
import http.server
import os
import threading
import time

import httpx
import pytest

BODY = os.urandom(2_000_000)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(1)
        self._answer(self.path.encode())

    def do_POST(self):
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Says nothing of clients that leave early: one test does."""


@pytest.fixture(params=["plain", "TLS"])
def client_options(request, certificates):
    """What a client needs to reach the server."""
    server = Server(("127.0.0.1", 0), Handler)
    scheme, options = "http", {}
    if request.param == "TLS":
        server.socket = certificates.server_context().wrap_socket(server.socket, server_side=True)
        scheme, options = "https", {"verify": certificates.client_context()}
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield options | {"base_url": f"{scheme}://localhost:{server.server_port}"}
    server.shutdown()
    thread.join()
    server.server_close()


def test_bodies_both_ways(run, client_options):
    async def main():
        async with httpx.AsyncClient(**client_options) as client:
            assert (await client.get("/path")).text == "/path"
            assert (await client.post("/", content=BODY)).content == BODY
            async with client.stream("POST", "/", content=BODY) as response:
                assert b"".join([piece async for piece in response.aiter_bytes()]) == BODY

    run(main())


def test_many_requests_at_once(run, client_options):
    async def main():
        async with httpx.AsyncClient(**client_options, limits=httpx.Limits(max_connections=20)) as client:
            answers = await asyncio.gather(*(client.get(f"/{number}") for number in range(100)))
            assert [answer.text for answer in answers] == [f"/{number}" for number in range(100)]

    run(main())


def test_timeout_leaves_the_client_usable(run, client_options):
    async def main():
        async with httpx.AsyncClient(**client_options) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get("/slow", timeout=0.2)
            assert (await client.get("/after")).text == "/after"

    run(main())


def test_refused_connection(run, port):
    async def main():
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{port}/")

    run(main())
