"""asyncio's streams, native. What they do is in ``crates/ferrio-python/src/streams``; here are the classes that users see.

What is called rarely (``repr``, ``start_tls``, …) is inherited from asyncio's classes.
"""

import asyncio
import contextvars
import socket
import sys
from asyncio import coroutines, events
from asyncio.streams import _DEFAULT_LIMIT, FlowControlMixin  # noqa: F401

from . import _ferrio
from ._native import Native, stands_for

__all__ = ["StreamReader", "StreamReaderProtocol", "StreamWriter", "open_connection", "start_server"]
if hasattr(socket, "AF_UNIX"):
    __all__ += ["open_unix_connection", "start_unix_server"]

#: Before 3.13, the writer of a server's connection lives as long as the connection.
_KEEPS_WRITER = sys.version_info < (3, 13)


@stands_for(asyncio.StreamReader)
class StreamReader(_ferrio.StreamReader, asyncio.StreamReader, metaclass=Native):
    __slots__ = ()

    #: What a method calls in asyncio, and not here.
    _CALLS = {
        "_wait_for_data": ("readline", "readuntil", "read", "readexactly"),
        "_maybe_resume_transport": ("readline", "readuntil", "read", "readexactly"),
        "readuntil": ("readline",),
        "readline": ("__anext__",),
    }

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        # Who overrides a method that others call in asyncio gets asyncio's own others.
        for name, callers in StreamReader._CALLS.items():
            for caller in callers if name in cls.__dict__ else ():
                if getattr(cls, caller) is getattr(StreamReader, caller):
                    setattr(cls, caller, getattr(asyncio.StreamReader, caller))

    async def readline(self):
        """Read a line, including its end. Less than a line is what comes before the end of the stream, at last b"".

        :raises ValueError: if the line is longer than the limit; what was read of it is dropped.
        """
        line = self._try_readline()
        while type(line) is int:
            await self._wait_for_data("readuntil")
            line = self._try_readline(line)
        return line

    async def readuntil(self, separator=b"\n"):
        """Read all up to and including ``separator``.

        :param separator: bytes; from Python 3.13 on also a tuple of them: the first that ends.
        :raises IncompleteReadError: if the stream ends before; its ``partial`` is what there was.
        :raises LimitOverrunError: if there is more before it than the limit; all is left as it is.
        """
        block = self._try_readuntil(separator)
        while type(block) is int:
            await self._wait_for_data("readuntil")
            block = self._try_readuntil(separator, block)
        return block

    async def read(self, n=-1):
        """Read at most ``n`` bytes, as soon as there are any: b"" at the end of the stream. Without ``n``, read all of it."""
        if n < 0:
            return await self._read_all()
        data = self._try_read(n)
        if data is None:
            await self._wait_for_data("read")
            data = self._read_now(n)
        return data

    async def _read_all(self):
        blocks = []
        while block := await self.read(self._limit):
            blocks.append(block)
        return b"".join(blocks)

    async def readexactly(self, n):
        """Read ``n`` bytes.

        :raises IncompleteReadError: if the stream ends before; its ``partial`` is what there was.
        """
        data = self._try_readexactly(n)
        while data is None:
            await self._wait_for_data("readexactly")
            data = self._readexactly_now(n)
        return data

    async def __anext__(self):
        line = self._try_readline()
        if type(line) is int:
            line = await self.readline()
        if line == b"":
            raise StopAsyncIteration
        return line


@stands_for(asyncio.StreamReaderProtocol)
class StreamReaderProtocol(_ferrio.StreamReaderProtocol, asyncio.StreamReaderProtocol, metaclass=Native):
    __slots__ = ()

    def connection_made(self, transport):
        if self._reject_connection:
            return super().connection_made(transport)
        reader = self._stream_reader
        self._transport = transport
        if reader is not None:
            reader.set_transport(transport)
        self._over_ssl = transport.get_extra_info("sslcontext") is not None
        callback = self._client_connected_cb
        if callback is None:
            return
        writer = StreamWriter(transport, self, reader, self._loop)
        if _KEEPS_WRITER:
            self._stream_writer = writer
        try:
            result = callback(reader, writer)
        except Exception as error:
            _CallbackEnded(self._loop, transport).failed(error)
        else:
            if coroutines.iscoroutine(result):
                self._task = task = self._loop.create_task(result)
                # In the connection's context, as this here; other loops' transports do not tell theirs.
                context = getattr(transport, "_context", None)
                if context is None:
                    context = contextvars.copy_context()
                task.add_done_callback(_CallbackEnded(self._loop, transport), context=context)
        self._strong_reader = None


class _CallbackEnded:
    """What becomes of a connection whose server's callback has ended."""

    __slots__ = ("_loop", "_transport")

    def __init__(self, loop, transport):
        self._loop = loop
        self._transport = transport

    def __call__(self, task):
        if task.cancelled():
            self._transport.close()
        elif (error := task.exception()) is not None:
            self.failed(error)

    def failed(self, error):
        self._loop.call_exception_handler(
            {
                "message": "Unhandled exception in client_connected_cb",
                "exception": error,
                "transport": self._transport,
            }
        )
        self._transport.close()


@stands_for(asyncio.StreamWriter)
class StreamWriter(_ferrio.StreamWriter, asyncio.StreamWriter, metaclass=Native):
    __slots__ = ()

    async def drain(self):
        """Wait until the transport has room for more. (It has at once while the peer keeps up.)"""
        if not self._is_drained():
            if self._transport.is_closing():
                # Otherwise who only writes and drains would never hear that the connection is lost.
                await asyncio.sleep(0)
            await self._protocol._drain_helper()


async def open_connection(host=None, port=None, *, limit=_DEFAULT_LIMIT, **kwds):
    """Connect to host and port; returns (reader, writer). Keywords are those of ``loop.create_connection()``.

    :param limit: the longest line, and half of what may wait to be read before the peer must.
    """
    loop, protocol, reader = _client(limit)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **kwds)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_server(client_connected_cb, host=None, port=None, *, limit=_DEFAULT_LIMIT, **kwds):
    """Start a server that calls ``client_connected_cb(reader, writer)`` for each connection, and, if it is a coroutine
    function, runs it as a task. Keywords are those of ``loop.create_server()``, the result is its result.

    :param limit: the longest line, and half of what may wait to be read before the peer must.
    """
    loop = events.get_running_loop()
    return await loop.create_server(_server_factory(loop, client_connected_cb, limit), host, port, **kwds)


if hasattr(socket, "AF_UNIX"):

    async def open_unix_connection(path=None, *, limit=_DEFAULT_LIMIT, **kwds):
        """``open_connection()`` to a Unix socket."""
        loop, protocol, reader = _client(limit)
        transport, _ = await loop.create_unix_connection(lambda: protocol, path, **kwds)
        return reader, StreamWriter(transport, protocol, reader, loop)

    async def start_unix_server(client_connected_cb, path=None, *, limit=_DEFAULT_LIMIT, **kwds):
        """``start_server()`` on a Unix socket."""
        loop = events.get_running_loop()
        return await loop.create_unix_server(_server_factory(loop, client_connected_cb, limit), path, **kwds)


def _client(limit):
    loop = events.get_running_loop()
    reader = StreamReader(limit=limit, loop=loop)
    return loop, StreamReaderProtocol(reader, loop=loop), reader


def _server_factory(loop, client_connected_cb, limit):
    def factory():
        return StreamReaderProtocol(StreamReader(limit=limit, loop=loop), client_connected_cb, loop=loop)

    return factory
