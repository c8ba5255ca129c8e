"""Cancelling what waits on a descriptor: nothing is lost, leaked, or taken from its next owner."""

import asyncio
import itertools
import os
import random
import socket
import time

import pytest

from .support import LOCALHOST, Recorder, fill, in_thread, open_descriptors, read_all, turns, until, within


@pytest.fixture
def black_hole():
    """An address where connecting never finishes: a listener whose queue is full."""
    with socket.socket() as listener:
        listener.bind((LOCALHOST, 0))
        listener.listen(0)
        queued = []
        try:
            for _ in range(4):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
                queued.append(sock)
            yield listener.getsockname()
        finally:
            for sock in queued:
                sock.close()


def test_cancelling_sock_connect_unregisters_before_the_number_is_reused(run, loop, black_hole):
    async def main():
        for _ in range(20):
            sock = socket.socket()
            sock.setblocking(False)
            number = sock.fileno()
            connecting = asyncio.ensure_future(loop.sock_connect(sock, black_hole))
            await turns(2)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            sock.close()
            ours, peer = socket.socketpair()
            with ours, peer:
                assert number in (ours.fileno(), peer.fileno())
                other = peer if number == ours.fileno() else ours
                ours.setblocking(False)
                peer.setblocking(False)
                read = []
                loop.add_reader(number, read.append, 1)
                await turns(3)
                assert read == []
                other.send(b"x")
                await until(lambda: read)
                assert loop.remove_reader(number) is True
                os.fstat(number)  # Still open: nobody closed a number that is no longer theirs.

    run(main())


def test_a_socket_closed_right_after_cancelling_takes_nothing_with_it(run, loop, black_hole):
    """The order in which happy-eyeballs clients do it: cancel, close, and open the next, all before the loop turns."""

    async def main():
        for _ in range(50):
            sock = socket.socket()
            sock.setblocking(False)
            connecting = asyncio.ensure_future(loop.sock_connect(sock, black_hole))
            await turns()
            connecting.cancel()
            sock.close()
            ours, peer = socket.socketpair()
            with ours, peer:
                ours.setblocking(False)
                receiving = asyncio.ensure_future(loop.sock_recv(ours, 10))
                await turns(2)
                peer.send(b"hello")
                assert await within(receiving) == b"hello"
                assert connecting.cancelled()

    run(main())


@pytest.mark.parametrize("steps", range(6))
def test_cancelling_create_connection_at_any_step_leaks_nothing(run, loop, black_hole, steps):
    async def main():
        await asyncio.gather(loop.getaddrinfo(LOCALHOST, 1), asyncio.sleep(0.01))
        before = open_descriptors()
        for _ in range(10):
            connecting = asyncio.ensure_future(loop.create_connection(Recorder, *black_hole))
            await turns(steps)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        await turns(3)
        assert open_descriptors() == before

    run(main())


def test_cancelling_create_connection_while_it_succeeds_leaks_nothing(run, loop):
    async def main():
        with socket.create_server((LOCALHOST, 0), backlog=200) as listener:
            before = open_descriptors()
            for steps in itertools.chain(range(12), range(12)):
                connecting = asyncio.ensure_future(loop.create_connection(Recorder, *listener.getsockname()))
                await turns(steps)
                connecting.cancel()
                try:
                    transport, protocol = await connecting
                except asyncio.CancelledError:
                    continue
                transport.abort()
                await within(protocol.lost)
            await asyncio.sleep(0.02)
            await until(lambda: open_descriptors() == before)

    run(main())


def test_cancelling_sock_recv_before_data_leaves_it_for_the_next(run, loop, sockets):
    ours, peer = sockets

    async def main():
        for n in range(50):
            message = b"%d" % n
            receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await turns(2)
            peer.send(message)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            assert await within(loop.sock_recv(ours, 100)) == message

    run(main())


@pytest.mark.stock_differs(
    "it reads when the socket is ready, and what was read is lost if the task is cancelled before its step"
)
@pytest.mark.parametrize("method", ["sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"])
def test_cancelling_a_receiving_method_in_the_turn_its_data_came_loses_nothing(run, loop, sockets, method):
    ours, peer = sockets
    buffer = bytearray(100)
    argument = buffer if method.endswith("into") else 100

    async def main():
        receiving = asyncio.ensure_future(getattr(loop, method)(ours, argument))
        await turns(2)

        def provoke():  # The next turn handles the socket first, then the timer, and only the one after steps the task.
            peer.send(b"precious")
            loop.call_later(0.001, receiving.cancel)
            time.sleep(0.01)

        loop.call_soon(provoke)
        try:
            result = await receiving
        except asyncio.CancelledError:
            return await within(loop.sock_recv(ours, 100), 0.5)
        return b"precious" if result in (b"precious", 8) or result[0] in (b"precious", 8) else result

    assert run(main()) == b"precious"


def test_cancelling_sock_accept_before_a_client_leaves_it_for_the_next(run, loop):
    async def main():
        with socket.create_server((LOCALHOST, 0)) as listener:
            listener.setblocking(False)
            for _ in range(20):
                accepting = asyncio.ensure_future(loop.sock_accept(listener))
                await turns(2)
                with socket.create_connection(listener.getsockname()) as client:
                    accepting.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await accepting
                    accepted, address = await within(loop.sock_accept(listener))
                    with accepted:
                        assert address == client.getsockname()

    run(main())


@pytest.mark.stock_differs(
    "it accepts when the listener is ready, and the connection is lost if the task is cancelled before its step"
)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_cancelling_sock_accept_in_the_turn_a_client_came_loses_nothing(run, loop):
    async def main():
        with socket.create_server((LOCALHOST, 0)) as listener:
            listener.setblocking(False)
            accepting = asyncio.ensure_future(loop.sock_accept(listener))
            await turns(2)
            clients = []

            def provoke():
                clients.append(socket.create_connection(listener.getsockname()))
                loop.call_later(0.001, accepting.cancel)
                time.sleep(0.01)

            loop.call_soon(provoke)
            try:
                accepted, address = await accepting
            except asyncio.CancelledError:
                accepted, address = await within(loop.sock_accept(listener), 0.5)
            with accepted, clients[0]:
                assert address == clients[0].getsockname()

    run(main())


def test_cancelling_sock_sendall_stops_sending(run, loop, sockets):
    ours, peer = sockets

    async def main():
        sending = asyncio.ensure_future(loop.sock_sendall(ours, bytes(64 << 20)))
        await turns(3)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert loop.remove_writer(ours) is False
        ours.shutdown(socket.SHUT_WR)
        assert len(await in_thread(read_all, peer)) < 64 << 20

    run(main())


def test_random_cancellation_leaves_every_descriptor_to_its_owner(run, loop):
    """Sockets opened, awaited, cancelled and closed at random: each number only ever serves the socket that has it now."""
    dice = random.Random(21)

    async def main():
        before = open_descriptors()
        for _ in range(300):
            ours, peer = socket.socketpair()
            with ours, peer:
                ours.setblocking(False)
                peer.setblocking(False)
                waiting = [asyncio.ensure_future(loop.sock_recv(ours, 10))]
                if dice.random() < 0.5:
                    fill(ours)
                    waiting.append(asyncio.ensure_future(loop.sock_sendall(ours, b"more")))
                await turns(dice.randrange(3))
                if dice.random() < 0.5:
                    peer.send(b"hello")
                await turns(dice.randrange(3))
                for task in waiting:
                    task.cancel()
                if (
                    len(waiting) == 2 or dice.random() < 0.5
                ):  # The stock loop trips over a socket closed with two waiting.
                    await asyncio.wait(waiting)
            await asyncio.wait(waiting)
            for task in waiting:
                assert task.cancelled() or task.result() in (b"hello", None)
        assert open_descriptors() == before

    run(main())
