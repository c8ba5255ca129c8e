"""A child's pipes, when connecting them takes long or fails."""

import asyncio
import gc
import os
import subprocess
import warnings

import ferrio
import pytest

from .support import Recorder, within


def replace_connect_read_pipe(loop):
    """Makes connecting slow, so that the child's words come before the start is over; returns who was connected."""
    connected = []
    original = loop.connect_read_pipe

    async def connect_read_pipe(*arguments):
        transport, protocol = await original(*arguments)
        await asyncio.sleep(0.1)
        connected.append(transport)
        return transport, protocol

    loop.connect_read_pipe = connect_read_pipe
    return connected


def test_a_loop_that_replaces_connect_read_pipe_is_asked_for_the_childs_pipes(loop):
    connected = replace_connect_read_pipe(loop)

    async def main():
        transport, protocol = await loop.subprocess_shell(Recorder, "echo out; echo err >&2; cat")
        assert connected == [transport.get_pipe_transport(1), transport.get_pipe_transport(2)]
        transport.get_pipe_transport(0).close()
        await within(protocol.lost)
        assert protocol.names[0] == "connection_made"
        assert protocol.data == {1: b"out\n", 2: b"err\n"}
        transport.close()

    loop.run_until_complete(main())


# The stock transport misses the end of a pipe that it has not noted yet, and never calls connection_lost.
def test_a_child_that_ends_before_its_pipes_are_connected_is_heard_whole():
    async def main():
        loop = asyncio.get_running_loop()
        replace_connect_read_pipe(loop)
        transport, protocol = await loop.subprocess_shell(Recorder, "echo out; echo err >&2; exit 7")
        await within(protocol.lost)
        assert (protocol.names[0], protocol.names[-1]) == ("connection_made", "connection_lost")
        assert protocol.data == {1: b"out\n", 2: b"err\n"}
        assert transport.get_returncode() == 7
        transport.close()

    ferrio.run(main())


def test_a_pipe_that_cannot_be_connected_ends_the_child(monkeypatch):
    loop = ferrio.new_event_loop()
    children = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, **keywords)
            children.append(self.pid)

    async def connect_read_pipe(factory, file):
        raise ArithmeticError

    async def main():
        loop.connect_read_pipe = connect_read_pipe
        with pytest.raises(ArithmeticError):
            await within(loop.subprocess_exec(Recorder, "sleep", "100"))
        (child,) = children
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.run_until_complete(main())
        loop.close()
        gc.collect()
