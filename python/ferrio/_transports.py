"""The classes that native transports give as their ``__class__``, so that ``isinstance`` finds asyncio's.

``asyncio.BaseTransport`` has a slot, which rules out a native base beside it: a native transport is no subclass of
``asyncio.Transport``, but says that its class is one of these.
"""

import asyncio


class StreamTransport(asyncio.Transport):
    """A connected stream socket (TCP or Unix)."""

    __slots__ = ()


class SSLTransport(asyncio.Transport):
    """The encrypted side of a TLS connection."""

    __slots__ = ()


class SSLProtocol(asyncio.Protocol):
    """What stands between a TLS transport and the transport under it."""

    __slots__ = ()


class SubprocessTransport(asyncio.SubprocessTransport):
    """A child process."""

    __slots__ = ()


class ReadPipeTransport(asyncio.ReadTransport):
    """The end of a pipe that is read."""

    __slots__ = ()


class WritePipeTransport(asyncio.WriteTransport):
    """The end of a pipe that is written."""

    __slots__ = ()


class DatagramTransport(asyncio.Transport, asyncio.DatagramTransport):
    """A datagram socket (UDP or Unix). It can pause reading, hence both bases, as in asyncio."""

    __slots__ = ()
