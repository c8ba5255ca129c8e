"""Protocols that misbehave over TLS."""

import asyncio

import pytest

from .ends import Recorder, connect


@pytest.mark.parametrize(
    "name, message",
    [
        ("data_received", "Fatal error on SSL protocol"),
        ("eof_received", "Error calling eof_received()"),
    ],
)
def test_an_error_in_the_protocol_is_fatal_and_reported(run, server_tls, client_tls, name, message):
    boom = ValueError("on purpose")

    def fail(self, *args):
        raise boom

    protocol_class = type("Protocol", (Recorder,), {name: fail})

    async def main():
        server, client = await connect(server_tls, client_tls, client=protocol_class)
        server.transport.write(b"x")
        server.transport.close()
        assert await client.lost is boom
        await server.lost

    [error] = run(main)
    assert error["exception"] is boom
    assert error["message"] == message


def test_an_error_in_connection_made_ends_the_connection_and_reaches_the_caller(run, server_tls, client_tls):
    boom = ValueError("on purpose")

    class Protocol(Recorder):
        def connection_made(self, transport):
            raise boom

    async def main():
        with pytest.raises(ValueError, match="on purpose"):
            await connect(server_tls, client_tls, client=Protocol)

    errors = run(main)
    assert boom in [error["exception"] for error in errors]


def test_a_keyboard_interrupt_in_the_protocol_leaves_the_loop(new_loop, server_tls, client_tls):
    class Protocol(Recorder):
        def data_received(self, data):
            raise KeyboardInterrupt

    loop = new_loop()
    server, client = loop.run_until_complete(connect(server_tls, client_tls, client=Protocol))
    server.transport.write(b"x")
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(5))
    server.transport.abort()
    client.transport.abort()
    loop.run_until_complete(asyncio.gather(server.lost, client.lost))
    loop.close()


def test_a_buffer_without_room_is_an_error(run, server_tls, client_tls, new_loop):
    if new_loop is asyncio.SelectorEventLoop:
        pytest.skip("asyncio takes it for the end of the stream")

    class Protocol(asyncio.BufferedProtocol):
        def __init__(self):
            self.lost = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint):
            return bytearray()

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def main():
        server, client = await connect(server_tls, client_tls, client=Protocol)
        server.transport.write(b"x")
        assert isinstance(await client.lost, RuntimeError)
        await server.lost

    [error] = run(main)
    assert "empty buffer" in str(error["exception"])
