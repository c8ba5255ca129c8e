"""getaddrinfo and getnameinfo: the C library's answers, and who is asked."""

import asyncio
import logging
import socket
import threading

import pytest

NUMERIC = [
    ("127.0.0.1", 80),
    ("127.0.0.1", "80"),
    ("127.0.0.1", None),
    (b"127.0.0.1", b"80"),
    ("::1", 80),
    ("fe80::1%lo", 80),
    ("::ffff:192.0.2.1", 0),
    (None, 8080),
    ("127.0.0.1", "http"),
]


@pytest.mark.parametrize("type", [0, socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["any", "stream", "datagram"])
@pytest.mark.parametrize("family", [0, socket.AF_INET, socket.AF_INET6], ids=["unspec", "inet", "inet6"])
@pytest.mark.parametrize(("host", "port"), NUMERIC, ids=lambda value: str(value))
def test_addresses_are_answered_as_socket_does(run, host, port, family, type):
    options = {"family": family, "type": type, "flags": socket.AI_PASSIVE}

    async def main(loop):
        try:
            expected = socket.getaddrinfo(host, port, **options)
        except socket.gaierror as error:
            with pytest.raises(socket.gaierror) as caught:
                await loop.getaddrinfo(host, port, **options)
            assert caught.value.args == error.args
        else:
            assert await loop.getaddrinfo(host, port, **options) == expected

    run(main)


@pytest.mark.parametrize(
    "host", ["1", "127.1", "256.1.1.1", "1.2.3.4.5", "::g", "fe80::1%no-such-zone", "", "01.2.3.4"]
)
def test_what_only_looks_like_an_address_is_answered_as_socket_does(run, host):
    async def main(loop):
        answers = []
        for ask in (lambda: asyncio.to_thread(socket.getaddrinfo, host, 80), lambda: loop.getaddrinfo(host, 80)):
            try:
                answers.append(await ask())
            except socket.gaierror as error:
                answers.append(error.args)
        assert answers[0] == answers[1]

    run(main)


def test_addresses_need_no_thread(run_on_ferrio, monkeypatch):
    # asyncio has a thread ask for these too.
    async def main(loop):
        monkeypatch.setattr(loop, "run_in_executor", None)
        for host, port in NUMERIC[:-1]:
            assert await loop.getaddrinfo(host, port)
        numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        assert await loop.getnameinfo(("127.0.0.1", 80), numeric) == ("127.0.0.1", "80")

    run_on_ferrio(main)


def test_names_are_looked_up_in_a_thread_of_the_default_executor(run, monkeypatch):
    async def main(loop):
        def getaddrinfo(*arguments):
            return arguments, threading.current_thread()

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        arguments, thread = await loop.getaddrinfo(
            "name.invalid", 80, family=socket.AF_INET, type=socket.SOCK_STREAM, proto=6, flags=2
        )
        assert arguments == ("name.invalid", 80, socket.AF_INET, socket.SOCK_STREAM, 6, 2)
        assert thread.name.startswith("asyncio_")

    run(main)


def test_a_name_that_does_not_exist_is_a_gaierror(run):
    async def main(loop):
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("name.invalid", 80)

    run(main)


def test_getnameinfo_names_service_and_host(run):
    async def main(loop):
        for flags in (0, socket.NI_NUMERICHOST, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV):
            expected = socket.getnameinfo(("127.0.0.1", 80), flags)
            assert await loop.getnameinfo(("127.0.0.1", 80), flags) == expected
        with pytest.raises(TypeError):
            await loop.getnameinfo("127.0.0.1", socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)

    run(main)


@pytest.mark.parametrize("host", ["127.0.0.1", "name.invalid"])
def test_debug_mode_logs_slow_answers(run, monkeypatch, caplog, host):
    async def main(loop):
        loop.slow_callback_duration = 0
        monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: ["answer"])
        caplog.set_level(logging.DEBUG, "asyncio")
        assert await loop.getaddrinfo(host, 80, family=socket.AF_INET) == ["answer"]

    run(main, debug=True)
    texts = [record.getMessage() for record in caplog.records]
    question = f"{host}:80, family={socket.AF_INET!r}"
    assert f"Get address info {question}" in texts
    [slow] = [record for record in caplog.records if record.getMessage().startswith("Getting address info ")]
    assert slow.levelno == logging.INFO
    assert slow.getMessage().startswith(f"Getting address info {question} took ")
    assert slow.getMessage().endswith("ms: ['answer']")


def test_a_cancelled_question_is_forgotten(run, monkeypatch):
    answer = threading.Event()

    async def main(loop):
        monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: answer.wait(10))
        asking = asyncio.ensure_future(loop.getaddrinfo("name.invalid", 80))
        await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        answer.set()
        await loop.shutdown_default_executor()

    run(main)
