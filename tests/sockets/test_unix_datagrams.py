"""Datagrams between Unix addresses."""

import os
import socket
import sys

import pytest

from .endpoints import ANY, closed, endpoint


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
