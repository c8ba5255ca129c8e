"""Servers and their connections: what ends with which, and what is known of a peer."""

import asyncio
import socket
import sys

import pytest

from .support import LOCALHOST, Recorder, in_thread, until, within


def test_closing_a_server_stops_listening_and_leaves_its_connections_alone(run, loop):
    protocols = []

    class Echo(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            protocols.append(self)

        def data_received(self, data):
            self.transport.write(data)

    async def main():
        server = await loop.create_server(Echo, LOCALHOST, 0)
        address = server.sockets[0].getsockname()
        with socket.create_connection(address) as client:
            client.settimeout(5)
            await until(lambda: protocols)
            assert server.is_serving()
            server.close()
            assert not server.is_serving()
            assert len(server.sockets) == 0
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            await asyncio.sleep(0.05)
            client.send(b"alive?")
            assert await in_thread(client.recv, 100) == b"alive?"
        await within(protocols[0].lost)
        await within(server.wait_closed())

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.close_clients came with 3.13")
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
def test_a_server_ends_its_connections_when_told_to(run, loop, how):
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    async def main():
        server = await loop.create_server(factory, LOCALHOST, 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.settimeout(5)
            await until(lambda: protocols and protocols[0].made.done())
            protocols[0].transport.write(b"bye")
            getattr(server, how)()
            assert await within(protocols[0].lost) is None
            assert await in_thread(client.recv, 100) == b"bye"
        server.close()
        await within(server.wait_closed())

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.close_clients came with 3.13")
def test_a_server_ends_its_own_connections_and_no_others(run, loop):
    protocols = {"ended": [], "kept": []}

    def factory(name):
        def make():
            protocols[name].append(Recorder())
            return protocols[name][-1]

        return make

    async def main():
        ended, kept = [await loop.create_server(factory(name), LOCALHOST, 0) for name in protocols]
        addresses = [server.sockets[0].getsockname() for server in (ended, kept)]
        with socket.create_connection(addresses[0]), socket.create_connection(addresses[1]) as client:
            client.settimeout(5)
            await until(lambda: all(made and made[0].made.done() for made in protocols.values()))
            ended.close_clients()
            assert await within(protocols["ended"][0].lost) is None
            protocols["kept"][0].transport.write(b"still here")
            assert await in_thread(client.recv, 100) == b"still here"
            assert not protocols["kept"][0].lost.done()
        await within(protocols["kept"][0].lost)
        for server in (ended, kept):
            server.close()
            await within(server.wait_closed())

    run(main())


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX], ids=lambda family: family.name)
def test_the_peers_address_is_known_after_the_peer_has_gone(run, loop, tmp_path, family):
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    async def main():
        if family == socket.AF_UNIX:
            own, address = str(tmp_path / "client"), str(tmp_path / "server")
            server = await loop.create_unix_server(factory, address)
        else:
            host = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}[family]
            own = (host, 0)
            server = await loop.create_server(factory, host, 0)
            address = server.sockets[0].getsockname()
        with socket.socket(family) as client:
            client.bind(own)
            client.connect(address)
            expected = client.getsockname()
            await until(lambda: protocols and protocols[0].made.done())
        await within(protocols[0].lost)
        transport = protocols[0].transport
        assert transport.get_extra_info("peername") == expected
        assert transport.get_extra_info("sockname") == address
        server.close()
        await within(server.wait_closed())

    run(main())


def test_wait_closed_of_a_server_waits_for_its_connections(run, loop):
    """Since 3.12.1; before, it returned at once when the server was closed already."""
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    async def main():
        server = await loop.create_server(factory, LOCALHOST, 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            await until(lambda: protocols and protocols[0].made.done())
            server.close()
            waiting = asyncio.ensure_future(server.wait_closed())
            await asyncio.sleep(0.02)
            assert waiting.done() is (sys.version_info < (3, 12, 1))
        await within(waiting)
        await within(protocols[0].lost)

    run(main())
