"""``loop.sendfile``: a file over a transport, by the kernel where it can, by reading and writing where it cannot."""

import asyncio
import sys
from asyncio import constants, exceptions

#: Bytes read from the file at once when the kernel does not copy: asyncio's figure.
_BLOCK = 16 * 1024

#: Since 3.14 the file is read from an offset of 0, too, wherever it stands.
_ALWAYS_SEEKS = sys.version_info >= (3, 14)

_Mode = constants._SendfileMode


async def sendfile(loop, transport, file, offset, count, fallback):
    if transport.is_closing():
        raise RuntimeError("Transport is closing")
    mode = getattr(transport, "_sendfile_compatible", _Mode.UNSUPPORTED)
    if mode is _Mode.UNSUPPORTED:
        raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
    if mode is _Mode.TRY_NATIVE:
        try:
            return await loop._sendfile_native(transport, file, offset, count)
        except exceptions.SendfileNotAvailableError:
            if not fallback:
                raise
    if not fallback:
        raise RuntimeError(f"fallback is disabled and native sendfile is not supported for transport {transport!r}")
    return await _by_reading(loop, transport, file, offset, count)


async def by_kernel(loop, transport, file, offset, count):
    """Let the kernel copy from the file to the transport's socket, after what is queued and before what comes."""
    was_reading = transport.is_reading()
    transport.pause_reading()
    try:
        await transport._make_empty_waiter()
        return await loop._send_by_kernel(transport, file, offset, count)
    finally:
        transport._reset_empty_waiter()
        if was_reading:
            transport.resume_reading()


async def _by_reading(loop, transport, file, offset, count):
    if offset or (_ALWAYS_SEEKS and hasattr(file, "seek")):
        file.seek(offset)
    block = memoryview(bytearray(min(count, _BLOCK) if count else _BLOCK))
    total = 0
    turnstile = _Turnstile(loop, transport)
    try:
        while count is None or total < count:
            room = len(block) if count is None else min(count - total, len(block))
            size = await loop.run_in_executor(None, file.readinto, block[:room])
            if not size:
                break
            await turnstile.drain()
            transport.write(bytes(block[:size]))
            total += size
        return total
    finally:
        if total > 0 and hasattr(file, "seek"):
            file.seek(offset + total)
        await turnstile.give_back()


class _Turnstile(asyncio.Protocol):
    """Stands in for a transport's protocol while a file is sent, to hear of back-pressure and of the end."""

    def __init__(self, loop, transport):
        self._loop = loop
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._was_reading = transport.is_reading()
        self._was_paused = transport._protocol_paused
        self._room = loop.create_future() if self._was_paused else None
        transport.pause_reading()
        transport.set_protocol(self)

    async def drain(self):
        if self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")
        if self._room is not None:
            await self._room

    async def give_back(self):
        self._transport.set_protocol(self._protocol)
        if self._was_reading:
            self._transport.resume_reading()
        if self._room is not None:
            # Nobody waits for it any more, but the protocol is still to hear that there is room.
            self._room.cancel()
        if self._was_paused:
            self._protocol.resume_writing()

    def connection_made(self, transport):
        raise RuntimeError("Invalid state: connection should have been established already.")

    def connection_lost(self, exc):
        if self._room is not None and not self._room.done():
            self._room.set_exception(exc or ConnectionError("Connection is closed by peer"))
        self._protocol.connection_lost(exc)

    def pause_writing(self):
        if self._room is None:
            self._room = self._loop.create_future()

    def resume_writing(self):
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def data_received(self, data):
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self):
        raise RuntimeError("Invalid state: reading should be paused")
