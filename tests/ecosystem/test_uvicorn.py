"""uvicorn serving HTTP, WebSockets and TLS, and stopping when it is told to."""

import os
import signal
import threading

import pytest
from programs import Browser, connectable
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect, unix_connect

COUNTED = b"".join(b"%08d" % number * 512 for number in range(200))


@pytest.fixture
def uvicorn(program, factory_spec, port):
    def start(*options):
        server = program("-m", "uvicorn", "asgi_app:app", "--loop", factory_spec, "--port", str(port), *options)
        server.until(connectable(port))
        return server

    return start


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_http(uvicorn, port, loop_name, http):
    uvicorn("--http", http)
    with Browser(port) as browser:
        assert browser.get("/loop").decode() == loop_name
        assert browser.get("/count?n=200") == COUNTED
        body = os.urandom(3_000_000)
        assert browser.post("/echo", body) == body
        assert browser.get("/nothing", expected=404) == b"nothing at /nothing"


def test_many_clients_at_once(uvicorn, port, loop_name):
    uvicorn()
    answers = []

    def client():
        with Browser(port) as browser:
            answers.extend(browser.get("/loop").decode() for _ in range(20))

    threads = [threading.Thread(target=client) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [loop_name] * 400


@pytest.mark.parametrize("implementation", ["websockets", "websockets-sansio", "wsproto"])
def test_websocket(uvicorn, port, loop_name, implementation):
    uvicorn("--ws", implementation)
    with connect(f"ws://127.0.0.1:{port}/") as socket:
        assert socket.recv() == loop_name
        for message in "text", b"bytes", os.urandom(300_000):
            socket.send(message)
            assert socket.recv() == message
        socket.send("bye")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv()
        assert closed.value.rcvd.code == 4000


def test_tls(uvicorn, port, loop_name, certificates):
    uvicorn("--ssl-keyfile", certificates.key, "--ssl-certfile", certificates.chain)
    context = certificates.client_context()
    with Browser(port, context) as browser:
        assert browser.get("/loop").decode() == loop_name
        assert browser.get("/count?n=200") == COUNTED
        body = os.urandom(3_000_000)
        assert browser.post("/echo", body) == body
    with connect(f"wss://localhost:{port}/", ssl=context) as socket:
        assert socket.recv() == loop_name


def test_unix_socket(program, factory_spec, tmp_path, loop_name):
    path = str(tmp_path / "http.sock")
    server = program("-m", "uvicorn", "asgi_app:app", "--loop", factory_spec, "--uds", path)
    server.until_it_says("Uvicorn running")
    with unix_connect(path, "ws://localhost/") as socket:
        assert socket.recv() == loop_name


# uvicorn raises the signal again once it has shut down, and takes a KeyboardInterrupt for a proper end.
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", -signal.SIGTERM), ("SIGINT", 0)])
def test_a_signal_stops_it_after_the_requests_under_way(uvicorn, port, loop_name, name, status):
    server = uvicorn()
    with Browser(port) as browser:
        browser.connection.request("GET", "/slow")
        server.until_it_says("slow: started")
        server.signal(signal.Signals[name])
        assert browser.connection.getresponse().read() == b"worth waiting for"
    assert server.wait() == status
    assert f"lifespan: startup on {loop_name}\n" in server.output
    assert "lifespan: shutdown\n" in server.output
    assert "Finished server process" in server.output


def test_worker_processes(uvicorn, port, loop_name):
    server = uvicorn("--workers", "2")
    pids = set()

    def both_have_answered():
        with Browser(port) as browser:
            assert browser.get("/loop").decode() == loop_name
            pids.add(browser.get("/pid"))
        return len(pids) == 2

    server.until(both_have_answered, "to answer from both workers")
    server.signal()
    assert server.wait() == 0
    assert server.output.count("lifespan: shutdown") == 2
