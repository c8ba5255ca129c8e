"""Thousands of connections, exchanges, cancellations and closings in random order leave nothing behind.

The descriptors, threads and objects at the end are those after the warm-up, and memory does not grow. The order is a seed's.
"""

import asyncio
import collections
import contextlib
import gc
import os
import random
import signal
import socket
import threading
import time

import pytest

from .support import LOCALHOST, open_descriptors, turns

SECONDS = 12
SEED = 2026
AT_ONCE = 16
# A round of everything may leave a little of this behind for good: caches, interned strings, the allocator's arenas.
OBJECTS_ALLOWED = 200
# Timers that were cancelled may wait in the heap until their time, or until there are enough of them to tidy up.
CANCELLED_TIMERS_ALLOWED = 1000
MEBIBYTES_ALLOWED = 8


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Client(asyncio.Protocol):
    def __init__(self):
        loop = asyncio.get_running_loop()
        self.received = 0
        self.lost = loop.create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += len(data)

    def connection_lost(self, exc):
        if not self.lost.done():
            self.lost.set_result(None)


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


class Soak:
    """The servers, and one method for each thing a round may do."""

    def __init__(self, loop, dice, tmp_path, server_tls, client_tls):
        self.loop = loop
        self.dice = dice
        self.path = str(tmp_path / "socket")
        self.server_tls = server_tls
        self.client_tls = client_tls
        self.rounds = collections.Counter()
        # Children cost a hundred times the rest.
        self.kinds = [
            self.tcp,
            self.unix,
            self.tls,
            self.datagram,
            self.socket_methods,
            self.timers,
            self.streams,
            self.refused,
            self.pipe,
            self.signals,
        ] * 10 + [self.child]

    async def start(self):
        self.servers = [
            await self.loop.create_server(Echo, LOCALHOST, 0, backlog=200),
            await self.loop.create_unix_server(Echo, self.path, backlog=200),
            await self.loop.create_server(Echo, LOCALHOST, 0, backlog=200, ssl=self.server_tls, ssl_shutdown_timeout=1),
        ]
        self.plain, _, self.secure = (server.sockets[0].getsockname() for server in self.servers)
        self.datagrams, _ = await self.loop.create_datagram_endpoint(EchoDatagrams, (LOCALHOST, 0))

    async def stop(self):
        for server in self.servers:
            server.close()
        self.datagrams.close()
        await turns(5)

    async def converse(self, transport, client):
        """Exchange something, or not, and part in one of the ways there are."""
        dice = self.dice
        sent = 0
        try:
            for _ in range(dice.randrange(4)):
                size = dice.choice([1, 100, 5000, 100_000])
                transport.write(bytes(size))
                sent += size
                if dice.random() < 0.3:
                    transport.pause_reading()
                    await asyncio.sleep(0)
                    transport.resume_reading()
            if dice.random() < 0.7:
                while client.received < sent:
                    await asyncio.sleep(0)
        finally:
            dice.choice([transport.close, transport.abort])()
        if dice.random() < 0.7:
            await client.lost

    async def tcp(self):
        await self.converse(*await self.loop.create_connection(Client, *self.plain))

    async def unix(self):
        await self.converse(*await self.loop.create_unix_connection(Client, self.path))

    async def tls(self):
        await self.converse(
            *await self.loop.create_connection(
                Client, *self.secure, ssl=self.client_tls, server_hostname="localhost", ssl_shutdown_timeout=1
            )
        )

    async def streams(self):
        reader, writer = await asyncio.open_connection(*self.plain)
        try:
            for _ in range(self.dice.randrange(5)):
                writer.write(b"a line\n")
                await writer.drain()
                await reader.readline()
        finally:
            writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def datagram(self):
        transport, protocol = await self.loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=self.datagrams.get_extra_info("sockname")
        )
        try:
            for _ in range(self.dice.randrange(5)):
                transport.sendto(bytes(100))
            await asyncio.sleep(0)
        finally:
            self.dice.choice([transport.close, transport.abort])()

    async def socket_methods(self):
        ours, peer = socket.socketpair()
        with ours, peer:
            ours.setblocking(False)
            peer.setblocking(False)
            tasks = [
                asyncio.ensure_future(self.loop.sock_recv(ours, 100)),
                asyncio.ensure_future(self.loop.sock_recv_into(peer, bytearray(100))),
            ]
            try:
                await asyncio.sleep(0)
                if self.dice.random() < 0.6:
                    await self.loop.sock_sendall(peer, b"hello")
                    await tasks[0]
                if self.dice.random() < 0.3:
                    self.loop.call_later(0.0005, peer.shutdown, socket.SHUT_RDWR)
                    await asyncio.wait(tasks, timeout=0.01)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def refused(self):
        with socket.socket() as sock:
            sock.bind((LOCALHOST, 0))  # Bound, and nobody listens.
            with pytest.raises(ConnectionRefusedError):
                await self.loop.create_connection(Client, *sock.getsockname())

    async def timers(self):
        handles = [self.loop.call_later(self.dice.random() * 0.01, int) for _ in range(50)]
        handles += [self.loop.call_soon(int) for _ in range(10)]
        for handle in self.dice.sample(handles, 40):
            handle.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.gather(*(asyncio.sleep(self.dice.random() * 0.002) for _ in range(5)))

    async def pipe(self):
        read_end, write_end = os.pipe()
        reader, reading = await self.loop.connect_read_pipe(Client, open(read_end, "rb", 0))
        try:
            writer, writing = await self.loop.connect_write_pipe(Client, open(write_end, "wb", 0))
        except BaseException:
            reader.close()
            raise
        try:
            writer.write(bytes(self.dice.choice([1, 1000, 200_000])))
            await asyncio.sleep(0)
        finally:
            writer.close() if self.dice.random() < 0.5 else writer.abort()
            reader.close()

    async def signals(self):
        got = self.loop.create_future()
        self.loop.add_signal_handler(signal.SIGUSR1, lambda: got.done() or got.set_result(None))
        if self.dice.random() < 0.5:
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.sleep(0)

    async def child(self):
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        try:
            if self.dice.random() < 0.5:
                await process.communicate(b"hello")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def one(self):
        kind = self.dice.choice(self.kinds)
        self.rounds[kind.__name__] += 1
        task = asyncio.ensure_future(kind())
        if self.dice.random() < 0.3 and kind not in (self.child, self.pipe):
            await turns(self.dice.randrange(8))
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass

    async def run(self, seconds):
        deadline = time.monotonic() + seconds

        async def worker():
            while time.monotonic() < deadline:
                await self.one()

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(worker())
        await self.quiet()

    async def quiet(self):
        """Until what was closed has been closed, on both sides, and threads have ended."""
        before, alike = None, 0
        for _ in range(200):
            await asyncio.sleep(0.03)
            now = len(open_descriptors()), threading.active_count()
            alike = alike + 1 if now == before else 0
            # On a busy machine nothing may happen for a moment, and closing go on after it.
            if alike == 10:
                break
            before = now
        with contextlib.suppress(ValueError):
            self.loop.remove_signal_handler(signal.SIGUSR1)


def counted_objects():
    for _ in range(3):
        gc.collect()
    return collections.Counter(type(thing).__qualname__ for thing in gc.get_objects())


def resident_mebibytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.timeout(90)
def test_thousands_of_random_rounds_leave_nothing_behind(loop, run, tmp_path, server_tls, client_tls):
    before_everything = open_descriptors()
    unexpected = collections.Counter()

    def handler(loop, context):
        # A peer that leaves in the middle of something may be reported. Counted only: contexts keep alive what they name.
        if not isinstance(context.get("exception"), OSError):
            unexpected[context["message"], repr(context.get("exception"))] += 1

    loop.set_exception_handler(handler)

    async def main():
        soak = Soak(loop, random.Random(SEED), tmp_path, server_tls, client_tls)
        await soak.start()
        for kind in soak.kinds[:10] * 5 + [soak.child] * 3:
            await kind()
        await soak.run(SECONDS / 6)
        soak.rounds.clear()
        descriptors, threads, objects, memory = (
            open_descriptors(),
            threading.active_count(),
            counted_objects(),
            resident_mebibytes(),
        )
        await soak.run(SECONDS)
        rounds = sum(soak.rounds.values())
        assert rounds > 1000 and min(soak.rounds.values()) > 0, soak.rounds
        assert len(open_descriptors()) == len(descriptors)
        assert threading.active_count() == threads
        more = counted_objects() - objects
        assert max(more.pop("TimerHandle", 0), more.pop("Context", 0)) < CANCELLED_TIMERS_ALLOWED
        assert sum(more.values()) < OBJECTS_ALLOWED, f"after {rounds} rounds: {more.most_common(10)}"
        grown = resident_mebibytes() - memory
        assert grown < MEBIBYTES_ALLOWED, f"{grown:.1f} MiB more after {rounds} rounds"
        await soak.stop()

    run(main())
    assert not unexpected
    run(asyncio.sleep(0.05))
    # The selector, and what the executor keeps, go with the loop.
    assert len(open_descriptors()) <= len(before_everything) + 3


@pytest.mark.parametrize("how", ["used", "unused", "with signals", "with an executor", "stopped"])
def test_a_thousand_loops_leave_nothing_behind(new_event_loop, how):
    def one():
        loop = new_event_loop()
        if how == "used":
            loop.run_until_complete(asyncio.sleep(0))
        elif how == "with signals":
            loop.add_signal_handler(signal.SIGUSR1, int)
        elif how == "with an executor":
            loop.run_until_complete(loop.run_in_executor(None, int))
            loop.run_until_complete(loop.shutdown_default_executor())
        elif how == "stopped":
            loop.call_later(100, int)
            loop.call_soon(int)
            loop.stop()
            loop.run_forever()
        loop.close()

    count = 100 if how == "with an executor" else 1000
    for _ in range(20):
        one()
    descriptors, threads, objects = open_descriptors(), threading.active_count(), counted_objects()
    for _ in range(count):
        one()
    assert open_descriptors() <= descriptors
    assert threading.active_count() <= threads
    more = counted_objects() - objects
    assert sum(more.values()) < count / 10 + 50, more.most_common(10)
