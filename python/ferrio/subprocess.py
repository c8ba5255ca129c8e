"""asyncio's child processes with ferrio's streams. What runs a child is the loop; ``Process`` is asyncio's own."""

import asyncio.subprocess
from asyncio import events
from asyncio.subprocess import DEVNULL as DEVNULL
from asyncio.subprocess import PIPE as PIPE
from asyncio.subprocess import STDOUT as STDOUT
from asyncio.subprocess import Process

from . import _ferrio
from ._native import Native, stands_for
from .streams import _DEFAULT_LIMIT, StreamReader, StreamWriter

__all__ = ["create_subprocess_exec", "create_subprocess_shell"]


@stands_for(asyncio.subprocess.SubprocessStreamProtocol)
class SubprocessStreamProtocol(_ferrio.FlowControl, asyncio.subprocess.SubprocessStreamProtocol, metaclass=Native):
    """Between a child's pipes and their streams."""

    def __init__(self, limit, loop):
        super().__init__(loop=loop)
        self._limit = limit
        self.stdin = self.stdout = self.stderr = None
        self._transport = None
        self._process_exited = False
        self._pipe_fds = []
        self._stdin_closed = loop.create_future()

    def connection_made(self, transport):
        self._transport = transport
        self.stdout = self._reader(1)
        self.stderr = self._reader(2)
        stdin = transport.get_pipe_transport(0)
        if stdin is not None:
            self.stdin = StreamWriter(stdin, protocol=self, reader=None, loop=self._loop)

    def _reader(self, fd):
        pipe = self._transport.get_pipe_transport(fd)
        if pipe is None:
            return None
        reader = StreamReader(limit=self._limit, loop=self._loop)
        reader.set_transport(pipe)
        self._pipe_fds.append(fd)
        return reader


async def create_subprocess_shell(cmd, stdin=None, stdout=None, stderr=None, limit=_DEFAULT_LIMIT, **kwds):
    """Run a shell command; returns a ``Process``. Keywords are those of ``subprocess.Popen``."""
    loop, factory = _protocol_factory(limit)
    transport, protocol = await loop.subprocess_shell(factory, cmd, stdin=stdin, stdout=stdout, stderr=stderr, **kwds)
    return Process(transport, protocol, loop)


async def create_subprocess_exec(program, *args, stdin=None, stdout=None, stderr=None, limit=_DEFAULT_LIMIT, **kwds):
    """Run a program; returns a ``Process``. Keywords are those of ``subprocess.Popen``."""
    loop, factory = _protocol_factory(limit)
    transport, protocol = await loop.subprocess_exec(
        factory, program, *args, stdin=stdin, stdout=stdout, stderr=stderr, **kwds
    )
    return Process(transport, protocol, loop)


def _protocol_factory(limit):
    loop = events.get_running_loop()
    return loop, lambda: SubprocessStreamProtocol(limit=limit, loop=loop)
