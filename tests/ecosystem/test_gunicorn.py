"""gunicorn with uvicorn's worker: two processes, reloaded and stopped by signals."""

import signal

import pytest
from programs import Browser, connectable


@pytest.fixture
def gunicorn(program, port):
    server = program(
        "-m", "gunicorn", "asgi_app:app", "-k", "gunicorn_worker.Worker", "--workers", "2", "--bind", f"127.0.0.1:{port}"
    )  # fmt: skip
    server.until(connectable(port))
    return server


def pids(server, port, loop_name, avoid=frozenset()):
    """The two workers, each of which answers on the loop under test; none of them in `avoid`."""
    found = set()

    def two_have_answered():
        with Browser(port) as browser:
            assert browser.get("/loop").decode() == loop_name
            found.add(browser.get("/pid"))
        return len(found - avoid) == 2

    server.until(two_have_answered, "to answer from both workers")
    return found - avoid


def test_workers_answer_and_stop_gracefully(gunicorn, port, loop_name):
    pids(gunicorn, port, loop_name)
    with Browser(port) as browser:
        browser.connection.request("GET", "/slow")
        gunicorn.until_it_says("slow: started")
        gunicorn.signal(signal.SIGTERM)
        assert browser.connection.getresponse().read() == b"worth waiting for"
    assert gunicorn.wait() == 0
    assert gunicorn.output.count("lifespan: shutdown") == 2


def test_hangup_replaces_the_workers(gunicorn, port, loop_name):
    before = pids(gunicorn, port, loop_name)
    gunicorn.signal(signal.SIGHUP)
    pids(gunicorn, port, loop_name, avoid=before)
    gunicorn.signal(signal.SIGTERM)
    assert gunicorn.wait() == 0
