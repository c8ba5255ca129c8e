"""Errors of datagrams: what the kernel says, and what the protocol raises."""

import asyncio
import errno
import socket

import pytest

from .endpoints import ANY, Recorder, closed, endpoint


def test_nobody_there_is_an_error_received(run):
    async def main(loop):
        with socket.socket(type=socket.SOCK_DGRAM) as gone:
            gone.bind(ANY)
            address = gone.getsockname()
        client, protocol = await endpoint(loop, remote_addr=address)
        client.sendto(b"x")
        assert await protocol.until("error") == ("error", ConnectionRefusedError, errno.ECONNREFUSED)
        # It is no end: the next one leaves too.
        client.sendto(b"y")
        assert not client.is_closing()
        await closed(client)
        assert protocol.events[-1] == ("lost", None)

    run(main)


def test_a_datagram_too_large_is_an_error_received(run):
    async def main(loop):
        client, protocol = await endpoint(loop, family=socket.AF_INET)
        client.sendto(bytes(70_000), ("127.0.0.1", 9))
        assert protocol.events[-1][0] == "error"
        assert protocol.events[-1][1] is OSError
        await closed(client)

    run(main)


def test_what_error_received_raises_reaches_the_caller_of_sendto(run):
    class Protocol(Recorder):
        def error_received(self, exc):
            raise ZeroDivisionError

    async def main(loop):
        client, protocol = await loop.create_datagram_endpoint(Protocol, family=socket.AF_INET)
        with pytest.raises(ZeroDivisionError):
            client.sendto(bytes(70_000), ("127.0.0.1", 9))
        await closed(client)

    run(main)


def test_no_address_at_all_is_fatal(run):
    async def main(loop):
        errors = []
        loop.set_exception_handler(lambda loop, context: errors.append(context))
        client, protocol = await endpoint(loop, family=socket.AF_INET)
        client.sendto(b"x")
        assert client.is_closing()
        _, exc = await protocol.until("lost")
        assert isinstance(exc, TypeError)
        [context] = errors
        assert context["message"] == "Fatal write error on datagram transport"
        assert context["exception"] is exc
        assert context["transport"] is client
        assert context["protocol"] is protocol

    run(main)


def test_what_datagram_received_raises_is_reported_and_the_endpoint_goes_on(run, far):
    class Protocol(Recorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"bad":
                raise ZeroDivisionError

    async def main(loop):
        errors = []
        loop.set_exception_handler(lambda loop, context: errors.append(context["exception"]))
        server, protocol = await loop.create_datagram_endpoint(Protocol, local_addr=ANY)
        with socket.socket(type=socket.SOCK_DGRAM) as plain:
            plain.sendto(b"bad", server.get_extra_info("sockname"))
            plain.sendto(b"good", server.get_extra_info("sockname"))
        while len(protocol.received) < 2:
            await asyncio.sleep(0)
        assert [type(error) for error in errors] == [ZeroDivisionError]
        await closed(server)

    run(main)
