"""Streams over connections of all kinds."""

import asyncio
import gc
import socket
import sys
import weakref

import pytest

from .support import close, echo, served


def test_an_echo_of_lines_blocks_and_the_end(run, streams):
    async def main():
        async with served(streams, echo) as connect:
            reader, writer = await connect()
            writer.write(b"one\ntwo\n")
            writer.writelines([b"three", bytearray(b"\n"), memoryview(b"four")])
            await writer.drain()
            assert await reader.readline() == b"one\n"
            assert await reader.readuntil(b"o") == b"two"
            assert await reader.readexactly(7) == b"\nthree\n"
            assert writer.can_write_eof()
            writer.write_eof()
            assert await reader.read() == b"four"
            assert reader.at_eof()
            assert await reader.read() == await reader.readline() == await reader.read(3) == b""
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await reader.readexactly(2)
            assert (caught.value.partial, caught.value.expected) == (b"", 2)
            await close(writer)
            assert writer.is_closing()

    run(main())


@pytest.mark.parametrize("size", [1, 1_000, 70_000, 1_000_000, 5_000_000])
def test_a_block_larger_than_every_limit_arrives_whole_and_the_sender_waits(run, streams, size):
    block = bytes(range(256)) * (size // 256) + bytes(size % 256)

    async def main():
        async with served(streams, echo) as connect:
            reader, writer = await connect(limit=4096)

            async def send():
                for start in range(0, size, 100_000):
                    writer.write(block[start : start + 100_000])
                    await writer.drain()

            sending = asyncio.ensure_future(send())
            assert await reader.readexactly(size) == block
            await sending
            await close(writer)

    run(main())


def test_a_slow_reader_holds_the_sender_up(run, streams):
    async def main():
        received = []
        may_read = asyncio.Event()

        async def slow(reader, writer):
            # Nothing is read for a while: what may wait here is little.
            await may_read.wait()
            received.append(reader._paused)
            while block := await reader.read(10_000):
                received.append(len(block))
            await close(writer)

        async with served(streams, slow, limit=1000) as connect:
            _, writer = await connect()
            writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
            writer.write(bytes(8_000_000))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(writer.drain(), 0.05)
            may_read.set()
            await writer.drain()
            await close(writer)
            while sum(received[1:]) < 8_000_000:
                await asyncio.sleep(0.01)
            assert received[0] is True

    run(main())


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
def test_unix_sockets(run, streams, tmp_path):
    async def main():
        server = await streams.start_unix_server(echo, tmp_path / "socket")
        reader, writer = await streams.open_unix_connection(tmp_path / "socket")
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        await close(writer)
        server.close()
        await server.wait_closed()

    run(main())


def test_another_protocol_takes_the_connection_over_and_gives_it_back(run, streams):
    class Collector(asyncio.Protocol):
        def __init__(self):
            self.data = asyncio.get_running_loop().create_future()

        def data_received(self, data):
            self.data.set_result(data)

    async def main():
        async with served(streams, echo) as connect:
            reader, writer = await connect()
            transport, protocol = writer.transport, writer.transport.get_protocol()
            collector = Collector()
            transport.set_protocol(collector)
            writer.write(b"for the other")
            assert await collector.data == b"for the other"
            transport.set_protocol(protocol)
            writer.write(b"for the reader")
            assert await reader.read(100) == b"for the reader"
            await close(writer)

    run(main())


def test_child_processes(run, streams):
    async def main():
        program = "import sys; data = sys.stdin.read(); print(data.upper()); print(len(data), file=sys.stderr)"
        pipe = asyncio.subprocess.PIPE
        process = await streams.create_subprocess_exec(
            sys.executable, "-c", program, stdin=pipe, stdout=pipe, stderr=pipe
        )
        assert await process.communicate(b"word " * 100_000) == (b"WORD " * 100_000 + b"\n", b"500000\n")
        assert process.returncode == 0
        process = await streams.create_subprocess_shell("echo one; echo two; exit 3", stdout=pipe)
        assert [line async for line in process.stdout] == [b"one\n", b"two\n"]
        assert await process.wait() == 3
        assert isinstance(process, asyncio.subprocess.Process)
        assert isinstance(process.stdout, streams.StreamReader)

    run(main())


def test_nothing_is_left_of_a_connection_that_has_ended(run, streams):
    async def main():
        left = []

        async def handle(reader, writer):
            left.extend([weakref.ref(reader), weakref.ref(writer), weakref.ref(writer.transport.get_protocol())])
            await echo(reader, writer)

        async with served(streams, handle) as connect:
            for _ in range(3):
                reader, writer = await connect()
                writer.write(b"hello")
                await reader.readexactly(5)
                left.extend([weakref.ref(reader), weakref.ref(writer), weakref.ref(writer.transport.get_protocol())])
                await close(writer)
            del reader, writer
        await asyncio.sleep(0.01)
        gc.collect()
        assert [one() for one in left if one() is not None] == []

    run(main())
