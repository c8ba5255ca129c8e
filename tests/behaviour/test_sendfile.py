"""Files that are sent over a socket, and over a transport."""

import os
import socket
import tempfile

import pytest

from .support import in_thread, read_all, transport_over, within


@pytest.mark.parametrize("size", [0, 1, 100_000, 3 << 20])
def test_sock_sendfile_sends_the_file_and_moves_its_position(run, loop, sockets, size):
    ours, peer = sockets
    content = os.urandom(size)

    async def main():
        with tempfile.TemporaryFile() as file:
            file.write(b"skipped" + content)
            file.flush()
            reading = in_thread(read_all, peer)
            assert await within(loop.sock_sendfile(ours, file, 7)) == size
            assert file.tell() == 7 + size
            ours.shutdown(socket.SHUT_WR)
            assert await reading == content

    run(main())


@pytest.mark.parametrize("count", [None, 1, 50_000])
def test_sendfile_over_a_transport_sends_between_writes(run, loop, sockets, count):
    ours, peer = sockets
    content = os.urandom(400_000)

    async def main():
        reading = in_thread(read_all, peer)
        transport, protocol = await transport_over(ours)
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            transport.write(b"head" * 50_000)
            assert await within(loop.sendfile(transport, file, 10, count)) == (count or len(content) - 10)
            transport.write(b"tail")
        transport.close()
        await within(protocol.lost)
        return await reading

    assert run(main()) == b"head" * 50_000 + content[10:][:count] + b"tail"
