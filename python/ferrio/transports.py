"""The classes that native transports give as their ``__class__``, so that ``isinstance`` finds asyncio's.

``asyncio.BaseTransport`` has a slot, which rules out a native base beside it: a native transport is no subclass of
``asyncio.Transport``, but says that its class is one of these.
"""

import asyncio


class StreamTransport(asyncio.Transport):
    """A connected stream socket (TCP or Unix)."""

    __slots__ = ()
