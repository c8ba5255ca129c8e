"""create_datagram_endpoint and its transport."""

import asyncio
import contextvars
import errno
import gc
import logging
import os
import socket
import sys
import time
import warnings

import pytest

from .conftest import turns
from .endpoints import ANY, Recorder, closed, drain, endpoint, stuffed, udp_pair

SENDS_EMPTY = sys.version_info >= (3, 13)


# --- sending and receiving -------------------------------------------------------------------------------------------


def test_question_and_answer(run):
    async def main(loop):
        server, server_protocol, client, client_protocol = await udp_pair(loop)
        client.sendto(b"question")
        _, data, address = await server_protocol.until("received")
        assert (data, address) == (b"question", client.get_extra_info("sockname"))
        assert type(data) is bytes
        server.sendto(b"answer", address)
        assert await client_protocol.until("received") == ("received", b"answer", server.get_extra_info("sockname"))
        await closed(server, client)
        assert [event[0] for event in server_protocol.events] == ["made", "received", "lost"]

    run(main)


@pytest.mark.parametrize("address", [("::1", 0), ("::1", 0, 0, 0)], ids=["host and port", "with flow and scope"])
def test_ipv6(run, address):
    async def main(loop):
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.bind(address)
        server, server_protocol = await endpoint(loop, sock=sock)
        client, client_protocol = await endpoint(loop, family=socket.AF_INET6)
        for target in (sock.getsockname(), sock.getsockname()[:2]):
            server_protocol.events.clear()
            client.sendto(b"x", target)
            _, data, sender = await server_protocol.until("received")
            assert server_protocol.received == [b"x"]
        port = client.get_extra_info("socket").getsockname()[1]
        assert sender == ("::1", port, 0, 0)
        await closed(server, client)

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.10.99", "127.100.109.255"])
def test_a_sender_is_called_what_its_socket_is(run, host):
    async def main(loop):
        server, protocol = await endpoint(loop, local_addr=ANY)
        with socket.socket(type=socket.SOCK_DGRAM) as plain:
            plain.bind((host, 0))
            plain.sendto(b"x", server.get_extra_info("sockname"))
            assert (await protocol.until("received"))[2] == plain.getsockname()
        await closed(server)

    run(main)


def test_several_senders_are_told_apart_and_answered(run):
    async def main(loop):
        server, server_protocol = await endpoint(loop, local_addr=ANY)
        clients = [await endpoint(loop, remote_addr=server.get_extra_info("sockname")) for _ in range(3)]
        for _ in range(2):
            for index, (client, _protocol) in enumerate(clients):
                client.sendto(b"%d" % index)
        while len(server_protocol.received) < 6:
            await asyncio.sleep(0)
        for _, data, address in [event for event in server_protocol.events if event[0] == "received"]:
            server.sendto(b"to " + data, address)
        for index, (_, protocol) in enumerate(clients):
            while len(protocol.received) < 2:
                await asyncio.sleep(0)
            assert protocol.received == [b"to %d" % index] * 2
        await closed(server, *(client for client, _ in clients))

    run(main)


def test_a_host_name_as_target_is_looked_up(run):
    async def main(loop):
        server, server_protocol = await endpoint(loop, local_addr=ANY)
        client, _ = await endpoint(loop, family=socket.AF_INET)
        client.sendto(b"x", ("localhost", server.get_extra_info("sockname")[1]))
        await server_protocol.until("received")
        await closed(server, client)

    run(main)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview], ids=lambda kind: kind.__name__)
def test_sendto_takes_bytes_likes(run, kind):
    async def main(loop):
        server, server_protocol, client, _ = await udp_pair(loop)
        client.sendto(kind(b"abc"))
        assert (await server_protocol.until("received"))[1] == b"abc"
        await closed(server, client)

    run(main)


@pytest.mark.parametrize("data", ["text", None, [1], 5])
def test_sendto_refuses_other_types(run, data):
    async def main(loop):
        server, _ = await endpoint(loop, local_addr=ANY)
        with pytest.raises(TypeError) as caught:
            server.sendto(data, ANY)
        expected = f"data argument must be a bytes-like object, not {type(data).__name__!r}"
        assert str(caught.value) == expected
        await closed(server)

    run(main)


def test_an_empty_datagram_arrives_where_asyncio_sends_it(run):
    async def main(loop):
        server, server_protocol, client, _ = await udp_pair(loop)
        client.sendto(b"")
        client.sendto(b"last")
        while b"last" not in server_protocol.received:
            await asyncio.sleep(0)
        assert server_protocol.received == ([b"", b"last"] if SENDS_EMPTY else [b"last"])
        # One from elsewhere always arrives.
        server_protocol.events.clear()
        with socket.socket(type=socket.SOCK_DGRAM) as plain:
            plain.sendto(b"", server.get_extra_info("sockname"))
        assert (await server_protocol.until("received"))[1] == b""
        await closed(server, client)

    run(main)


def test_the_largest_datagram(run):
    async def main(loop):
        server, server_protocol, client, _ = await udp_pair(loop)
        data = os.urandom(65507)
        client.sendto(data)
        assert (await server_protocol.until("received"))[1] == data
        await closed(server, client)

    run(main)


def test_one_datagram_per_turn_so_that_what_it_sets_off_runs_first(run):
    async def main(loop):
        order = []

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                order.append(data)
                loop.call_soon(order.append, "after " + data.decode())

        server, _ = await loop.create_datagram_endpoint(Protocol, local_addr=ANY)
        with socket.socket(type=socket.SOCK_DGRAM) as plain:
            for data in (b"1", b"2"):
                plain.sendto(data, server.get_extra_info("sockname"))
        while len(order) < 4:
            await asyncio.sleep(0)
        assert order == [b"1", "after 1", b"2", "after 2"]
        server.close()
        await turns()

    run(main)


def test_a_flood_of_datagrams_leaves_room_for_other_descriptors_and_for_stop(run):
    async def main(loop):
        received = []

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                received.append(data)

        server, _ = await loop.create_datagram_endpoint(Protocol, local_addr=ANY)
        mine, other = socket.socketpair()
        with socket.socket(type=socket.SOCK_DGRAM) as plain, mine, other:
            for _ in range(100):
                plain.sendto(b"x", server.get_extra_info("sockname"))
            other.send(b"x")
            seen = loop.create_future()
            loop.add_reader(mine, lambda: seen.done() or seen.set_result(len(received)))
            assert await seen < 100
            loop.remove_reader(mine)
            while len(received) < 100:
                await asyncio.sleep(0)
        server.close()
        await turns()

    run(main)


def test_slow_datagrams_leave_room_for_timers(run):
    async def main(loop):
        received = []
        seen = loop.create_future()

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                if not received:
                    loop.call_later(0.001, lambda: seen.set_result(len(received)))
                received.append(data)
                # Longer than the coarsest clock's tick.
                time.sleep(0.02)

        server, _ = await loop.create_datagram_endpoint(Protocol, local_addr=ANY)
        with socket.socket(type=socket.SOCK_DGRAM) as plain:
            for _ in range(10):
                plain.sendto(b"x", server.get_extra_info("sockname"))
        assert await seen == 2
        server.close()
        await turns()

    run(main)


def test_a_connected_endpoint_refuses_other_addresses(run):
    async def main(loop):
        server, server_protocol, client, _ = await udp_pair(loop)
        with pytest.raises(ValueError, match="Invalid address: must be None or"):
            client.sendto(b"x", ("127.0.0.1", 1))
        client.sendto(b"x", server.get_extra_info("sockname"))
        assert (await server_protocol.until("received"))[1] == b"x"
        await closed(server, client)

    run(main)


@pytest.fixture
def can_pause(request):
    """For tests that pause an endpoint."""
    known = asyncio.selector_events._SelectorDatagramTransport.is_reading is not asyncio.ReadTransport.is_reading
    if not known and "asyncio" in request.node.name:
        pytest.skip("early versions of 3.11 have endpoints that cannot pause")


@pytest.mark.usefixtures("can_pause")
def test_pause_reading_keeps_datagrams_for_later(run):
    async def main(loop):
        server, server_protocol, client, _ = await udp_pair(loop)
        server.pause_reading()
        assert not server.is_reading()
        client.sendto(b"x")
        await turns(10)
        assert server_protocol.received == []
        server.resume_reading()
        assert server.is_reading()
        assert (await server_protocol.until("received"))[1] == b"x"
        await closed(server, client)

    run(main)


# --- errors ----------------------------------------------------------------------------------------------------------


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


# --- flow control ----------------------------------------------------------------------------------------------------


def test_what_the_kernel_has_no_room_for_waits_and_leaves_in_order(run, far):
    async def main(loop):
        transport, protocol = await stuffed(loop, far)
        numbers = [b"%d" % number for number in range(100)]
        for number in numbers:
            transport.sendto(number)
        received = []
        while numbers[-1] not in received:
            received += drain(far)
            await asyncio.sleep(0)
        assert received[-len(numbers) :] == numbers
        await closed(transport)

    run(main)


def test_nothing_is_counted_once_all_has_left(run_on_ferrio, far):
    # asyncio 3.13.0 adds the headers and never takes them off again: no oracle here.
    async def main(loop):
        transport, protocol = await stuffed(loop, far)
        transport.sendto(b"last")
        received = []
        while b"last" not in received:
            received += drain(far)
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() == 0
        await closed(transport)

    run_on_ferrio(main)


def test_the_queued_size_counts_headers_where_asyncio_does(run, far):
    async def main(loop):
        transport, protocol = await stuffed(loop, far)
        header = 8 if SENDS_EMPTY else 0
        assert transport.get_write_buffer_size() == 100 + header
        transport.sendto(b"12345")
        assert transport.get_write_buffer_size() == 105 + 2 * header
        transport.abort()
        await protocol.until("lost")

    run(main)


def test_a_queued_bytearray_may_be_changed(run, far):
    async def main(loop):
        transport, _ = await stuffed(loop, far)
        data = bytearray(b"before")
        transport.sendto(data)
        data[:] = b"after!"
        received = []
        while b"before" not in received:
            received += drain(far)
            await asyncio.sleep(0)
        await closed(transport)

    run(main)


def test_the_protocol_is_paused_and_resumed(run, far):
    async def main(loop):
        transport, protocol = await stuffed(loop, far)
        transport.set_write_buffer_limits(high=1000, low=200)
        assert transport.get_write_buffer_limits() == (200, 1000)
        while transport.get_write_buffer_size() <= 1000:
            assert ("pause",) not in protocol.events
            transport.sendto(bytes(100))
        assert protocol.events[-1] == ("pause",)
        while ("resume",) not in protocol.events:
            drain(far)
            await asyncio.sleep(0)
        assert protocol.events.count(("pause",)) == 1
        assert transport.get_write_buffer_size() <= 200
        await closed(transport)

    run(main)


def test_lowering_the_limits_pauses_at_once(run, far):
    async def main(loop):
        transport, protocol = await stuffed(loop, far)
        transport.set_write_buffer_limits(high=0)
        assert protocol.events[-1] == ("pause",)
        for high, low in [(1, 2), (-1, None), (None, -1)]:
            with pytest.raises(ValueError, match="must be >= low"):
                transport.set_write_buffer_limits(high, low)
        transport.abort()
        await protocol.until("lost")

    run(main)


# --- the end ---------------------------------------------------------------------------------------------------------


def test_close_waits_until_what_is_queued_has_left(run, far):
    async def main(loop):
        transport, protocol = await stuffed(loop, far)
        transport.sendto(b"last")
        transport.close()
        assert transport.is_closing()
        await turns()
        assert ("lost", None) not in protocol.events
        received = []
        while ("lost", None) not in protocol.events:
            received += drain(far)
            await asyncio.sleep(0)
        assert (received + drain(far))[-1] == b"last"

    run(main)


def test_abort_throws_away_what_is_queued(run, far):
    async def main(loop):
        transport, protocol = await stuffed(loop, far)
        transport.sendto(b"last")
        transport.abort()
        await protocol.until("lost")
        assert b"last" not in drain(far)

    run(main)


def test_connection_lost_comes_later_and_once(run):
    async def main(loop):
        server, protocol = await endpoint(loop, local_addr=ANY)
        server.close()
        server.close()
        server.abort()
        assert protocol.events == [("made",)]
        await turns()
        assert protocol.events == [("made",), ("lost", None)]

    run(main)


def test_sendto_after_the_end_is_dropped_and_warned_about(run, caplog):
    async def main(loop):
        server, _, client, client_protocol = await udp_pair(loop)
        await closed(server, client)
        for _ in range(10):
            client.sendto(b"x")

    run(main)
    warned = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert set(warned) == {"socket.send() raised exception."}


@pytest.mark.usefixtures("can_pause")
def test_an_unclosed_endpoint_is_warned_about(run):
    async def main(loop):
        # Watched endpoints are kept alive by the loop; one that pauses is not.
        server, protocol = await endpoint(loop, local_addr=ANY)
        server.pause_reading()
        del protocol.transport
        return server

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        server = run(main)
        fd = server.get_extra_info("socket").fileno()
        del server
        gc.collect()
    texts = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
    assert any("unclosed transport" in text for text in texts)
    with pytest.raises(OSError):
        os.fstat(fd)


def test_the_descriptor_is_closed_after_connection_lost(run):
    async def main(loop):
        fds = []

        class Protocol(Recorder):
            def connection_lost(self, exc):
                fds.append(self.transport.get_extra_info("socket").fileno())
                super().connection_lost(exc)

        server, protocol = await loop.create_datagram_endpoint(Protocol, local_addr=ANY)
        await closed(server)
        assert fds[0] != -1
        assert server.get_extra_info("socket").fileno() == -1
        assert server.get_extra_info("sockname")[0] == "127.0.0.1"

    run(main)


# --- what it tells about itself --------------------------------------------------------------------------------------


def test_it_is_a_datagram_transport(run):
    async def main(loop):
        server, protocol = await endpoint(loop, local_addr=ANY)
        assert isinstance(server, asyncio.BaseTransport)
        assert isinstance(server, asyncio.Transport)
        if sys.version_info >= (3, 12):
            assert isinstance(server, asyncio.DatagramTransport)
        assert server.get_protocol() is protocol
        other = Recorder()
        server.set_protocol(other)
        assert server.get_protocol() is other
        with socket.socket(type=socket.SOCK_DGRAM) as plain:
            plain.sendto(b"x", server.get_extra_info("sockname"))
        await other.until("received")
        assert protocol.received == []
        await closed(server)

    run(main)


def test_extra_info(run):
    async def main(loop):
        server, _, client, _ = await udp_pair(loop)
        sock = server.get_extra_info("socket")
        assert type(sock) is asyncio.trsock.TransportSocket
        assert sock.getsockname() == server.get_extra_info("sockname")
        assert server.get_extra_info("peername") is None
        assert server.get_extra_info("peername", "default") is None
        assert client.get_extra_info("peername") == server.get_extra_info("sockname")
        assert client.get_extra_info("unknown") is None
        assert client.get_extra_info("unknown", 5) == 5
        await closed(server, client)

    run(main)


def test_repr(run):
    async def main(loop):
        server, _ = await endpoint(loop, local_addr=ANY)
        fd = server.get_extra_info("socket").fileno()
        assert repr(server).endswith(f"DatagramTransport fd={fd} read=polling write=<idle, bufsize=0>>")
        server.close()
        assert repr(server).endswith(f"DatagramTransport closing fd={fd} read=idle write=<idle, bufsize=0>>")
        await turns()
        assert repr(server).endswith(f"DatagramTransport closed fd={fd}>")

    run(main)


def test_callbacks_run_in_the_context_of_the_maker(run):
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []

    class Protocol(Recorder):
        def note(self, *event):
            seen.append((event[0], variable.get()))
            super().note(*event)

    async def main(loop):
        variable.set("inside")
        server, protocol = await loop.create_datagram_endpoint(Protocol, local_addr=ANY)
        with socket.socket(type=socket.SOCK_DGRAM) as plain:
            plain.sendto(b"x", server.get_extra_info("sockname"))
        await protocol.until("received")
        await closed(server)

    run(main)
    assert seen == [("made", "inside"), ("received", "inside"), ("lost", "inside")]


# --- making one ------------------------------------------------------------------------------------------------------


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


# --- Unix ------------------------------------------------------------------------------------------------------------


def test_unix_endpoints(run, tmp_path):
    async def main(loop):
        here, there = str(tmp_path / "here"), str(tmp_path / "there")
        server, server_protocol = await endpoint(loop, family=socket.AF_UNIX, local_addr=there)
        client, client_protocol = await endpoint(loop, family=socket.AF_UNIX, local_addr=here, remote_addr=there)
        client.sendto(b"question")
        assert await server_protocol.until("received") == ("received", b"question", here)
        server.sendto(b"answer", here)
        assert await client_protocol.until("received") == ("received", b"answer", there)
        await closed(server, client)

    run(main)


def test_a_unix_datagram_from_nobody(run, tmp_path):
    async def main(loop):
        there = str(tmp_path / "there")
        server, server_protocol = await endpoint(loop, family=socket.AF_UNIX, local_addr=there)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plain:
            plain.sendto(b"x", there)
        assert await server_protocol.until("received") == ("received", b"x", None)
        await closed(server)

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="abstract Unix addresses are Linux's")
def test_abstract_unix_addresses(run):
    async def main(loop):
        name = f"\0ferrio-test-{os.getpid()}"
        server, server_protocol = await endpoint(loop, family=socket.AF_UNIX, local_addr=name)
        client, _ = await endpoint(loop, family=socket.AF_UNIX, local_addr=name + "-client", remote_addr=name)
        client.sendto(b"x")
        assert await server_protocol.until("received") == ("received", b"x", (name + "-client").encode())
        await closed(server, client)

    run(main)


def test_a_stale_socket_file_is_replaced_and_no_other_file(run, tmp_path):
    async def main(loop):
        stale = str(tmp_path / "stale")
        for _ in range(2):
            server, _ = await endpoint(loop, family=socket.AF_UNIX, local_addr=stale)
            await closed(server)
        assert os.path.exists(stale)
        other = tmp_path / "file"
        other.write_text("precious")
        with pytest.raises(OSError):
            await endpoint(loop, family=socket.AF_UNIX, local_addr=str(other))
        assert other.read_text() == "precious"

    run(main)


def test_a_socket_class_with_its_own_methods_is_asked(run):
    class Shouting(socket.socket):
        def recvfrom(self, size, flags=0):
            data, address = super().recvfrom(size, flags)
            return data.upper(), address

        def sendto(self, data, address):
            return super().sendto(data * 2, address)

    async def main(loop):
        sock = Shouting(type=socket.SOCK_DGRAM)
        sock.bind(ANY)
        server, protocol = await endpoint(loop, sock=sock)
        with socket.socket(type=socket.SOCK_DGRAM) as plain:
            plain.settimeout(5)
            plain.bind(ANY)
            plain.sendto(b"x", sock.getsockname())
            assert (await protocol.until("received"))[1] == b"X"
            server.sendto(b"y", plain.getsockname())
            assert plain.recv(10) == b"yy"
        await closed(server)

    run(main)
