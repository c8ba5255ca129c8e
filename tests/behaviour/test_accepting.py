"""Servers that accept: a crowd at once, and no descriptors left."""

import asyncio
import errno
import os
import resource
import socket
import time

from .support import LOCALHOST, turns, until, within


def test_accept_backs_off_a_second_when_descriptors_run_out_and_then_goes_on(run, loop, errors):
    accepted = []
    hoard = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            accepted.append(transport)

    async def main():
        server = await loop.create_server(Protocol, LOCALHOST, 0)
        client = socket.socket()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
        try:
            try:
                while True:
                    hoard.append(os.dup(0))
            except OSError as error:
                assert error.errno == errno.EMFILE
            client.connect(server.sockets[0].getsockname())
            started = time.monotonic()
            cpu = time.process_time()
            await until(lambda: errors)
            await asyncio.sleep(0.5)
            assert time.process_time() - cpu < 0.25, "the loop is spinning"
            assert accepted == []
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for number in hoard:
                os.close(number)
        assert "out of system resource" in errors[0]["message"]
        assert errors[0]["exception"].errno == errno.EMFILE
        del errors[:]
        await until(lambda: accepted)
        assert 0.9 < time.monotonic() - started < 3
        accepted[0].abort()
        client.close()
        server.close()
        await turns(3)

    run(main())


def test_a_server_accepts_a_crowd_that_came_at_once(run, loop):
    made = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            made.append(transport)

    async def main():
        server = await loop.create_server(Protocol, LOCALHOST, 0, backlog=300)
        clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(250)]
        await until(lambda: len(made) == 250)
        for client in clients:
            client.close()
        server.close()
        await within(server.wait_closed())
        await turns(5)

    run(main())
