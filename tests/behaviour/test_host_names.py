"""Names of hosts: `getaddrinfo` and `getnameinfo` answer as the system's do, and a connection tries every address."""

import itertools
import socket

import pytest

from .support import LOCALHOST, Recorder, within

HOSTS = [
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%lo",
    "fe80::1%1",
    "::ffff:1.2.3.4",
    "1.2.3",
    "127.1",
    "0x7f.1",
    "1",
    "",
    None,
    b"127.0.0.1",
    "01.02.03.04",
]
# Asked for as numbers only: otherwise they are names, and a name server would be asked.
NAMES = [
    "1.2.3.4.5",
    "::g",
    "fe80::1%nosuchinterface",
    "127.0.0.1%lo",
    " 127.0.0.1",
    "127.0.0.1 ",
    "[::1]",
    "localhost",
]
PORTS = [80, 0, 65535, "80", "http", None, b"80", "", 65536, -1, "no-such-service"]


def failure(error):
    return type(error), getattr(error, "errno", None)


@pytest.mark.parametrize("family", [0, socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize(
    "kind", [(0, 0), (socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, socket.IPPROTO_UDP)], ids=["any", "tcp", "udp"]
)
def test_getaddrinfo_answers_as_the_systems_does(run, loop, family, kind):
    type, proto = kind
    different = []

    async def main():
        numeric = [socket.AI_NUMERICHOST, socket.AI_NUMERICHOST | socket.AI_NUMERICSERV]
        for host, port, flags in itertools.chain(
            itertools.product(HOSTS, PORTS, [0, socket.AI_PASSIVE, *numeric]), itertools.product(NAMES, PORTS, numeric)
        ):
            keywords = dict(family=family, type=type, proto=proto, flags=flags)
            try:
                expected = socket.getaddrinfo(host, port, **keywords)
            except Exception as error:
                expected = failure(error)
            try:
                got = await loop.getaddrinfo(host, port, **keywords)
            except Exception as error:
                got = failure(error)
            if got != expected:
                different.append((host, port, flags, got, expected))

    run(main())
    assert different == []


def test_getaddrinfo_keeps_the_scope_of_an_ipv6_address(run, loop):
    [(*_, address)] = run(loop.getaddrinfo("fe80::1%lo", 80, type=socket.SOCK_STREAM))
    assert address[3] == socket.if_nametoindex("lo")


def test_getnameinfo_answers_as_the_systems_does(run, loop):
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    for address in ((LOCALHOST, 80), ("::1", 443), ("fe80::1", 80, 0, 1), ("::1", 0, 0, 0)):
        assert run(loop.getnameinfo(address, flags)) == socket.getnameinfo(address, flags)
    assert run(loop.getnameinfo((LOCALHOST, 80), socket.NI_NUMERICHOST)) == socket.getnameinfo(
        (LOCALHOST, 80), socket.NI_NUMERICHOST
    )


def test_create_connection_falls_back_from_ipv6_to_ipv4(run, loop):
    """`localhost` with several addresses of which only one listens."""

    async def main():
        server = await loop.create_server(Recorder, LOCALHOST, 0)
        port = server.sockets[0].getsockname()[1]

        async def both(*args, **keywords):
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (LOCALHOST, port)),
            ]

        loop.getaddrinfo = both
        for options in ({}, {"happy_eyeballs_delay": 0.05}, {"happy_eyeballs_delay": 0.05, "interleave": 1}):
            transport, protocol = await within(loop.create_connection(Recorder, "localhost", port, **options))
            assert transport.get_extra_info("peername") == (LOCALHOST, port)
            transport.close()
            await within(protocol.lost)
        del loop.getaddrinfo
        server.close()
        await within(server.wait_closed())

    run(main())
