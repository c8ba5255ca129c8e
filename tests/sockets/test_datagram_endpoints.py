"""Making a datagram endpoint: addresses, sockets, options, and what is refused."""

import gc
import logging
import socket
import warnings

import pytest

from .endpoints import ANY, Recorder, closed, endpoint, udp_pair


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, "unexpected address family"),
        ({"local_addr": "127.0.0.1"}, "2-tuple is expected"),
        ({"remote_addr": ["127.0.0.1", 1]}, "2-tuple is expected"),
        ({"remote_addr": ("127.0.0.1", 1, 2)}, "2-tuple is expected"),
        ({"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 1)}, "can not get address information"),
        ({"family": socket.AF_UNIX, "local_addr": ("127.0.0.1", 0)}, "string is expected"),
        ({"family": socket.AF_UNIX, "remote_addr": b"path"}, "string is expected"),
    ],
    ids=str,
)
def test_wrong_addresses(run, options, error):
    async def main(loop):
        with pytest.raises((TypeError, ValueError)) as caught:
            await endpoint(loop, **options)
        assert str(caught.value) == error

    run(main)


def test_reuse_address_is_gone(run):
    async def main(loop):
        with pytest.raises(TypeError, match="unexpected keyword argument 'reuse_address'"):
            await loop.create_datagram_endpoint(Recorder, local_addr=ANY, reuse_address=True)

    run(main)


@pytest.mark.parametrize(
    "options",
    [
        {"local_addr": ANY},
        {"remote_addr": ANY, "family": 1},
        {"proto": 1, "flags": 2},
        {"reuse_port": True},
        {"allow_broadcast": True, "reuse_port": False},
    ],
    ids=str,
)
def test_a_socket_and_options_for_one_exclude_each_other(run, options):
    async def main(loop):
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            with pytest.raises(ValueError) as caught:
                await endpoint(loop, sock=sock, **options)
        problems = [
            f"{name}={options[name]}"
            for name in ("local_addr", "remote_addr", "family", "proto", "flags", "reuse_port", "allow_broadcast")
            if options.get(name)
        ]
        assert str(caught.value) == (
            f"socket modifier keyword arguments can not be used when sock is specified. ({', '.join(problems)})"
        )

    run(main)


def test_a_stream_socket_is_refused(run):
    async def main(loop):
        with socket.socket() as sock:
            with pytest.raises(ValueError, match=r"was expected, got <socket\.socket"):
                await endpoint(loop, sock=sock)

    run(main)


def test_a_given_socket_is_made_non_blocking(run):
    async def main(loop):
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.bind(ANY)
        transport, _ = await endpoint(loop, sock=sock)
        assert sock.gettimeout() == 0
        await closed(transport)
        assert sock.fileno() == -1

    run(main)


def test_options_of_the_socket(run):
    async def main(loop):
        one, _ = await endpoint(loop, local_addr=ANY, reuse_port=True, allow_broadcast=True)
        two, _ = await endpoint(loop, local_addr=one.get_extra_info("sockname"), reuse_port=True)
        for transport, broadcast in [(one, 1), (two, 0)]:
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == broadcast
        await closed(one, two)

    run(main)


def test_a_broadcasting_endpoint_is_not_connected_but_has_its_address(run):
    async def main(loop):
        server, server_protocol = await endpoint(loop, local_addr=ANY)
        address = server.get_extra_info("sockname")
        client, _ = await endpoint(loop, remote_addr=address, allow_broadcast=True)
        assert client.get_extra_info("peername") is None
        client.sendto(b"x")
        await server_protocol.until("received")
        with pytest.raises(ValueError, match="Invalid address"):
            client.sendto(b"x", ANY)
        await closed(server, client)

    run(main)


def test_an_address_in_use_is_an_error_and_the_socket_is_closed(run):
    async def main(loop):
        one, _ = await endpoint(loop, local_addr=ANY)
        with pytest.raises(OSError) as caught:
            await endpoint(loop, local_addr=one.get_extra_info("sockname"))
        assert caught.value.errno is not None
        await closed(one)
        gc.collect()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main)


def test_names_are_looked_up_with_the_loops_own_getaddrinfo(run):
    async def main(loop):
        asked = []

        async def getaddrinfo(host, port, **options):
            asked.append((host, options["type"]))
            return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", port))]

        loop.getaddrinfo = getaddrinfo
        transport, _ = await endpoint(loop, local_addr=("here.invalid", 0), remote_addr=("there.invalid", 9))
        assert asked == [("here.invalid", socket.SOCK_DGRAM), ("there.invalid", socket.SOCK_DGRAM)]
        assert transport.get_extra_info("peername") == ("127.0.0.1", 9)
        await closed(transport)

        async def nothing(*args, **options):
            return []

        loop.getaddrinfo = nothing
        with pytest.raises(OSError, match="returned empty list"):
            await endpoint(loop, local_addr=("here.invalid", 0))

    run(main)


def test_debug_mode_logs_new_endpoints(run, caplog):
    caplog.set_level(logging.DEBUG, "asyncio")

    async def main(loop):
        server, _, client, _ = await udp_pair(loop)
        await closed(server, client)

    run(main, debug=True)
    texts = [record.getMessage() for record in caplog.records]
    assert any(text.startswith(f"Datagram endpoint local_addr={ANY!r} remote_addr=None created: (") for text in texts)
    assert any(text.startswith("Datagram endpoint remote_addr=('127.0.0.1', ") for text in texts)


def test_what_the_factory_raises_reaches_the_caller(run):
    async def main(loop):
        with pytest.raises(ZeroDivisionError):
            await loop.create_datagram_endpoint(lambda: 1 / 0, local_addr=ANY)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run(main)
        gc.collect()
