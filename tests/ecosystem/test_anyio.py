"""anyio's asyncio backend: structured concurrency, sockets, processes, signals and threads on the loop under test."""

import asyncio
import os
import signal
import socket

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from anyio.streams.tls import TLSListener, TLSStream

BODY = os.urandom(2_000_000)


@pytest.fixture
def run(factory, check_loop):
    """anyio chooses the loop by itself: runs an async function on the factory's."""

    async def checked(function):
        check_loop()
        return await function()

    def run(function):
        return anyio.run(checked, function, backend_options={"loop_factory": factory})

    return run


async def echo(stream):
    async with stream:
        async for data in stream:
            await stream.send(data)


async def exchange(client):
    """Sends BODY and its end, and receives it back."""

    async def send():
        await client.send(BODY)

    received = bytearray()
    async with anyio.create_task_group() as group:
        group.start_soon(send)
        while len(received) < len(BODY):
            received += await client.receive()
    assert received == BODY


async def serve_and_exchange(listener, connect):
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, echo)
        async with await connect() as client:
            await exchange(client)
        group.cancel_scope.cancel()


def test_cancel_scopes(run):
    async def main():
        with anyio.move_on_after(0.1) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught

        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.1):
                await anyio.sleep_forever()

        cleaned = []

        async def child(number):
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.01)
                    cleaned.append(number)

        async def fail():
            await anyio.sleep(0.01)
            raise ValueError("a child failed")

        with pytest.raises(ExceptionGroup) as failure:
            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon(child, number)
                group.start_soon(fail)
        assert [str(error) for error in failure.value.exceptions] == ["a child failed"]
        assert sorted(cleaned) == list(range(10))

    run(main)


def test_tcp(run):
    async def main():
        listener = await anyio.create_tcp_listener(local_host="localhost")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        await serve_and_exchange(listener, lambda: anyio.connect_tcp("localhost", port))

    run(main)


def test_tls(run, certificates):
    async def main():
        plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = plain.extra(anyio.abc.SocketAttribute.local_port)
        listener = TLSListener(plain, certificates.server_context())

        async def connect():
            stream = await anyio.connect_tcp("127.0.0.1", port)
            return await TLSStream.wrap(stream, hostname="localhost", ssl_context=certificates.client_context())

        await serve_and_exchange(listener, connect)

    run(main)


def test_unix_socket_and_descriptors(run, tmp_path):
    async def main():
        path = tmp_path / "anyio.sock"
        listener = await anyio.create_unix_listener(path)
        await serve_and_exchange(listener, lambda: anyio.connect_unix(path))

        left, right = socket.socketpair()
        from_socket = anyio.abc.UNIXSocketStream.from_socket
        async with await from_socket(left) as sender, await from_socket(right) as receiver:
            reading, writing = os.pipe()
            await sender.send_fds(b"a pipe", [writing])
            os.close(writing)
            message, (received,) = await receiver.receive_fds(100, 1)
            assert message == b"a pipe"
            with os.fdopen(received, "wb") as pipe:
                pipe.write(b"through it")
            with os.fdopen(reading, "rb") as pipe:
                assert pipe.read() == b"through it"

    run(main)


def test_udp(run):
    async def main():
        async with await anyio.create_udp_socket(local_host="127.0.0.1") as server:
            address = server.extra(anyio.abc.SocketAttribute.local_address)
            async with await anyio.create_connected_udp_socket(*address) as client:
                await client.send(b"question")
                data, peer = await server.receive()
                await server.sendto(data.upper(), *peer)
                assert await client.receive() == b"QUESTION"

    run(main)


def test_processes(run):
    async def main():
        result = await anyio.run_process(["cat"], input=BODY)
        assert (result.returncode, result.stdout) == (0, BODY)
        with pytest.raises(Exception, match="non-zero exit status 3"):
            await anyio.run_process(["sh", "-c", "exit 3"])
        async with await anyio.open_process(["sleep", "60"]) as process:
            process.terminate()
            assert await process.wait() == -signal.SIGTERM

    run(main)


def test_signals(run):
    async def main():
        with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert await anext(signals) == signal.SIGUSR1
            os.kill(os.getpid(), signal.SIGUSR2)
            assert await anext(signals) == signal.SIGUSR2

    run(main)


def test_threads_and_back(run, check_loop):
    async def main():
        async def on_the_loop(number):
            check_loop()
            await anyio.sleep(0.001)
            return number * 2

        def in_a_thread(number):
            return anyio.from_thread.run(on_the_loop, number)

        results = {}

        async def one(number):
            results[number] = await anyio.to_thread.run_sync(in_a_thread, number)

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(one, number)
        assert results == {number: number * 2 for number in range(50)}

    run(main)


def test_a_portal_runs_the_loop_in_a_thread(factory, loop_class):
    async def running_loop():
        return asyncio.get_running_loop()

    with anyio.from_thread.start_blocking_portal(backend_options={"loop_factory": factory}) as portal:
        assert type(portal.call(running_loop)) is loop_class


def test_waiting_for_descriptors(run):
    async def main():
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            await anyio.wait_writable(left)
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.wait_readable, left)
                await anyio.sleep(0.01)
                right.send(b"x")
            assert left.recv(1) == b"x"

    run(main)
