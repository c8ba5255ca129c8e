"""Datagrams that are sent and received, one by one."""

import asyncio
import os
import socket
import sys
import time

import pytest

from .conftest import turns
from .endpoints import ANY, SENDS_EMPTY, closed, endpoint, udp_pair


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
