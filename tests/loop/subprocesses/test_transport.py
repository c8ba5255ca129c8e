"""The transport of a child: what it is, its signals to the child, and what it says of itself."""

import asyncio
import gc
import signal
import subprocess

import ferrio
import pytest

from .support import Recorder, within


def test_a_transport_is_asyncios(loop):
    async def main():
        transport, protocol = await loop.subprocess_exec(Recorder, "cat", stderr=None)
        assert isinstance(transport, asyncio.SubprocessTransport)
        assert isinstance(transport.get_pipe_transport(0), asyncio.WriteTransport)
        assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
        assert transport.get_pipe_transport(2) is None
        assert transport.get_pipe_transport(7) is None
        child = transport.get_extra_info("subprocess")
        assert isinstance(child, subprocess.Popen)
        assert transport.get_pid() == child.pid
        assert transport.get_extra_info("nothing", 5) == 5
        assert transport.get_returncode() is None
        assert transport.get_protocol() is protocol
        assert f"pid={child.pid}" in repr(transport) and "running" in repr(transport)
        assert not transport.is_closing()
        transport.close()
        assert transport.is_closing()
        await within(protocol.lost)
        assert transport.get_returncode() == -signal.SIGKILL
        assert f"returncode=-{int(signal.SIGKILL)}" in repr(transport) and "closed" in repr(transport)
        assert child.returncode == -signal.SIGKILL
        transport.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize(
    "send, number",
    [
        (lambda transport: transport.kill(), signal.SIGKILL),
        (lambda transport: transport.terminate(), signal.SIGTERM),
        (lambda transport: transport.send_signal(signal.SIGUSR2), signal.SIGUSR2),
        (lambda transport: transport.send_signal(int(signal.SIGUSR1)), signal.SIGUSR1),
    ],
)
def test_a_signal_ends_the_child(loop, send, number):
    async def main():
        transport, protocol = await loop.subprocess_exec(Recorder, "sleep", "100")
        send(transport)
        await within(protocol.lost)
        assert transport.get_returncode() == -number
        transport.close()

    loop.run_until_complete(main())


def test_signals_after_the_end_are_told_that_there_is_nobody(loop):
    async def main():
        transport, protocol = await loop.subprocess_exec(Recorder, "true")
        await within(protocol.lost)
        await asyncio.sleep(0)
        for send in (transport.kill, transport.terminate, lambda: transport.send_signal(signal.SIGHUP)):
            with pytest.raises(ProcessLookupError):
                send()
        transport.close()

    loop.run_until_complete(main())


def test_a_signal_that_is_none_is_an_oserror(loop):
    async def main():
        transport, protocol = await loop.subprocess_exec(Recorder, "sleep", "100")
        with pytest.raises(OSError):
            transport.send_signal(1000)
        transport.close()
        await within(protocol.lost)

    loop.run_until_complete(main())


# Not without pidfds: there a thread keeps the transport until the child has ended, on either loop. And the stock loop's
# finalizer fails over the closed loop before it comes to the killing.
def test_an_unclosed_transport_warns_and_its_child_is_killed():
    loop = ferrio.new_event_loop()

    async def main():
        transport, _ = await asyncio.get_running_loop().subprocess_exec(Recorder, "sleep", "100")
        return transport.get_extra_info("subprocess")

    child = loop.run_until_complete(main())
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        loop.close()
        del main, loop
        gc.collect()
    assert child.wait(5) == -signal.SIGKILL


def test_debug_mode_tells_of_the_start_and_the_end(loop, caplog):
    caplog.set_level("DEBUG", logger="asyncio")
    loop.set_debug(True)

    async def main():
        transport, protocol = await loop.subprocess_exec(Recorder, "true", "secret")
        await within(protocol.lost)
        transport.close()
        transport, protocol = await loop.subprocess_exec(Recorder, "sleep", "100")
        transport.close()
        await within(protocol.lost)

    loop.run_until_complete(main())
    assert "execute program 'true' stdin=<pipe> stdout=<pipe>" in caplog.text
    assert "exited with return code 0" in caplog.text
    assert "Close running child process: kill" in caplog.text
    assert "secret" not in caplog.text
