"""A bounded piece of everything, for `ci/leaks.sh`: each round opens, uses, cancels, breaks and closes one of each kind.

python tests/audit/soak.py [ROUNDS]
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import tempfile
import warnings

import ferrio

try:
    import trustme
except ImportError:  # without it the rounds go without TLS
    trustme = None


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)
        self.transport.writelines([data[:1], bytearray(data[:1])])

    def eof_received(self):
        return False


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.room = bytearray(100)

    def get_buffer(self, sizehint):
        return self.room

    def buffer_updated(self, count):
        self.transport.write(self.room[:count])


class Failing(asyncio.Protocol):
    def data_received(self, data):
        raise ValueError("a protocol that fails")


async def streams(folder, tls):
    loop = asyncio.get_running_loop()
    server_tls, client_tls = tls
    path = os.path.join(folder, "socket")
    servers = [
        await loop.create_server(Echo, "127.0.0.1", 0),
        await loop.create_server(BufferedEcho, "127.0.0.1", 0),
        await loop.create_server(Failing, "127.0.0.1", 0),
        await loop.create_unix_server(Echo, path),
    ]
    if server_tls:
        servers.append(await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_tls))
    for server in servers:
        address = server.sockets[0].getsockname()
        if address == path:
            reader, writer = await asyncio.open_unix_connection(path)
        elif server is servers[-1] and server_tls:
            reader, writer = await asyncio.open_connection(*address, ssl=client_tls, server_hostname="localhost")
        else:
            reader, writer = await asyncio.open_connection(*address)
        writer.write(b"hello")
        await asyncio.wait_for(reader.read(5), 20)
        writer.write(bytes(300_000))
        with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
            await asyncio.wait_for(reader.readexactly(10_000_000), 0.01)
        if server is servers[1]:
            writer.transport.abort()
        else:
            writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        server.close()


async def datagrams():
    loop = asyncio.get_running_loop()
    received = loop.create_future()

    class Receive(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            if not received.done():
                received.set_result(address)

    transport, _ = await loop.create_datagram_endpoint(Receive, ("127.0.0.1", 0))
    transport.sendto(b"to myself", transport.get_extra_info("sockname"))
    await received
    transport.close()


async def sockets():
    loop = asyncio.get_running_loop()
    mine, peer = socket.socketpair()
    with mine, peer, socket.create_server(("127.0.0.1", 0)) as listener:
        for sock in (mine, peer, listener):
            sock.setblocking(False)
        await loop.sock_sendall(mine, b"x" * 1000)
        assert await loop.sock_recv(peer, 10_000) == b"x" * 1000
        for operation in (
            loop.sock_recv(peer, 10),
            loop.sock_recv_into(mine, bytearray(10)),
            loop.sock_accept(listener),
        ):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(operation, 0.001)
        client = socket.socket()
        client.setblocking(False)
        await loop.sock_connect(client, listener.getsockname())
        accepted, _ = await loop.sock_accept(listener)
        accepted.close()
        client.close()
        loop.add_reader(peer, lambda: None)
        loop.add_writer(peer, lambda: loop.remove_writer(peer))
        await asyncio.sleep(0.001)
        loop.remove_reader(peer)
        loop.sock_recv(peer, 1).close()


async def children():
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    assert (await process.communicate(b"through a child"))[0] == b"through a child"
    reader, writer = os.pipe()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(reader, "rb", 0))
    os.close(writer)
    await asyncio.sleep(0.001)
    transport.close()


async def timers():
    loop = asyncio.get_running_loop()
    handles = [loop.call_later(1000, print, number, "a", "b", "c", "d") for number in range(100)]
    for handle in handles[::2]:
        handle.cancel()
    chain = None
    for _ in range(200):
        chain = loop.call_later(1000, print, chain)
    loop.call_soon(lambda: 1 / 0)
    await asyncio.gather(*[asyncio.sleep(0.0001 * number) for number in range(10)])
    task = loop.create_task(asyncio.sleep(1000))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.to_thread(os.getpid)
    for handle in handles:
        handle.cancel()


async def one_round(folder, tls):
    await streams(folder, tls)
    await datagrams()
    await sockets()
    await timers()


def abandon(folder):
    """A loop that is given up with everything in it."""
    loop = ferrio.new_event_loop()
    mine, peer = socket.socketpair()
    mine.setblocking(False)
    tasks = [
        loop.create_task(loop.sock_recv(mine, 1)),
        loop.create_task(loop.create_server(Echo, "127.0.0.1", 0)),
        loop.create_task(loop.connect_accepted_socket(Echo, peer)),
    ]
    for task in tasks:
        task._log_destroy_pending = False
    loop.call_soon(loop.stop)
    loop.run_forever()
    mine.close()


def interrupt():
    """A run that ends by a signal."""

    async def main():
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        await asyncio.sleep(1000)

    with contextlib.suppress(KeyboardInterrupt):
        ferrio.run(main())


def certificates():
    if trustme is None:
        return None, None
    import ssl

    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def main(rounds=20):
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    tls = certificates()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            ferrio.run(one_round(folder, tls))
            if number % 5 == 0:
                ferrio.run(children())
                abandon(folder)
                interrupt()
                gc.collect()
    print(f"{rounds} rounds")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
