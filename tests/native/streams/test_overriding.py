"""Who overrides what the streams' classes do, or mixes asyncio's with ferrio's."""

import asyncio
import socket

import ferrio
import pytest

from .support import Recorder, close, echo


def test_what_a_subclass_overrides_is_called(run, streams):
    class Reader(streams.StreamReader):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.fed = []

        def feed_data(self, data):
            self.fed.append(bytes(data))
            super().feed_data(data.upper())

    class Protocol(streams.StreamReaderProtocol):
        received = b""

        def data_received(self, data):
            self.received += data
            super().data_received(data)

    async def connect(address, reader, make_protocol):
        loop = asyncio.get_running_loop()
        protocol = make_protocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, *address)
        return protocol, streams.StreamWriter(transport, protocol, reader, loop)

    async def main():
        server = await streams.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        reader = Reader()
        _, writer = await connect(address, reader, streams.StreamReaderProtocol)
        writer.write(b"hello\n")
        assert await reader.readline() == b"HELLO\n"
        assert reader.fed == [b"hello\n"]
        await close(writer)
        reader = streams.StreamReader()
        protocol, writer = await connect(address, reader, Protocol)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        assert protocol.received == b"hello\n"
        await close(writer)
        server.close()
        await server.wait_closed()

    run(main())


def test_a_method_that_asyncio_calls_by_others_is_called_by_them(run, streams):
    class Reader(streams.StreamReader):
        calls = ()

        async def readuntil(self, separator=b"\n"):
            self.calls += ("readuntil",)
            return await super().readuntil(separator)

        async def _wait_for_data(self, func_name):
            self.calls += (func_name,)
            await super()._wait_for_data(func_name)

    async def main():
        reader = Reader()
        reader.feed_data(b"one\n")
        assert await reader.readline() == b"one\n"
        asyncio.get_running_loop().call_soon(reader.feed_data, b"two\n")
        assert await reader.readline() == b"two\n"
        reader.feed_data(b"three\n")
        assert await reader.__anext__() == b"three\n"
        assert reader.calls == ("readuntil", "readuntil", "readuntil", "readuntil")
        asyncio.get_running_loop().call_soon(reader.feed_data, b"end")
        assert await reader.readexactly(3) == b"end"
        assert reader.calls[4:] == ("readexactly",)

    run(main())


def test_a_subclass_need_not_take_asyncios_arguments(run, streams):
    class Reader(streams.StreamReader):
        def __init__(self, name, *, limit=10):
            super().__init__(limit=limit)
            self.name = name

    class Protocol(streams.StreamReaderProtocol):
        def __init__(self, name):
            super().__init__(Reader(name), self.connected)

        def connected(self, reader, writer):
            self.writer = writer

    async def main():
        protocol = Protocol("one")
        transport = Recorder()
        protocol.connection_made(transport)
        assert protocol._stream_reader.name == "one"
        assert protocol.writer.transport is transport
        assert isinstance(protocol.writer, streams.StreamWriter)
        transport.closing = True

    run(main())


@pytest.mark.parametrize(
    "readers, protocols, writers", [(asyncio, ferrio, ferrio), (ferrio, asyncio, ferrio), (ferrio, ferrio, asyncio)]
)
def test_ferrios_and_asyncios_classes_work_together(run, readers, protocols, writers):
    async def main():
        server = await ferrio.start_server(echo, "127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        reader = readers.StreamReader(limit=100, loop=loop)
        protocol = protocols.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, *server.sockets[0].getsockname())
        writer = writers.StreamWriter(transport, protocol, reader, loop)
        writer.write(b"hello\n")
        await writer.drain()
        assert await reader.readline() == b"hello\n"
        writer.write(b"x" * 300_000)
        await writer.drain()
        assert await reader.readexactly(300_000) == b"x" * 300_000
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        server.close()
        await server.wait_closed()

    run(main())


def test_a_plain_flow_control_protocol_serves_a_writer_of_a_pipe(run, streams):
    # The usual recipe for an asynchronous standard output.
    async def main():
        loop = asyncio.get_running_loop()
        if type(loop).__module__ == "uvloop":
            pytest.skip("uvloop closes the descriptor and not the file that owns it: what then closes the file fails")
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with theirs:
            transport, protocol = await loop.connect_write_pipe(
                lambda: asyncio.streams.FlowControlMixin(loop=loop), ours.makefile("wb", 0)
            )
            writer = streams.StreamWriter(transport, protocol, None, loop)
            writer.write(b"hello")
            await writer.drain()
            assert await loop.sock_recv(theirs, 10) == b"hello"
            writer.close()
            await asyncio.sleep(0)
        ours.close()

    run(main())


def test_instances_count_as_asyncios_and_asyncios_as_ferrios(run):
    async def main():
        for name in ("StreamReader", "StreamReaderProtocol"):
            arguments = [asyncio.StreamReader()] if name.endswith("Protocol") else []
            ours, theirs = getattr(ferrio, name), getattr(asyncio, name)
            assert isinstance(ours(*arguments), theirs)
            assert isinstance(theirs(*arguments), ours)
        assert issubclass(ferrio.StreamWriter, asyncio.StreamWriter)
        assert isinstance(ferrio.StreamReaderProtocol(None), asyncio.Protocol)

    run(main())


def test_reprs_are_asyncios(run):
    async def main():
        descriptions = []
        for streams in (asyncio, ferrio):
            reader = streams.StreamReader(limit=123)
            reader.feed_data(b"abc")
            reader.set_exception(ValueError("wrong"))
            reader.feed_eof()
            descriptions.append(repr(reader))
        assert descriptions[0] == descriptions[1]

    run(main())
