"""Child processes: loop.subprocess_exec and subprocess_shell, and asyncio.create_subprocess_* over them."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
import warnings

import ferrio
import pytest
from ferrio import _helpers

from .conftest import FACTORIES

PYTHON = sys.executable


@pytest.fixture(params=[*FACTORIES, "ferrio without pidfds"])
def new_loop(request):
    """What makes a loop; ferrio's also watches children by threads, as it does where the system has no pidfds."""
    without = request.param == "ferrio without pidfds"
    ferrio._ferrio._use_pidfds_for_tests(not without)
    yield FACTORIES[request.param.split()[0]]
    ferrio._ferrio._use_pidfds_for_tests(True)


class Recorder(asyncio.SubprocessProtocol):
    """Writes down what it is told."""

    def __init__(self):
        self.calls = []
        self.data = {1: b"", 2: b""}
        self.lost = asyncio.get_running_loop().create_future()
        self.exited = asyncio.get_running_loop().create_future()

    @property
    def names(self):
        return [name for name, *_ in self.calls]

    def connection_made(self, transport):
        self.calls.append(("connection_made", transport))

    def pipe_data_received(self, fd, data):
        self.data[fd] += data
        self.calls.append(("pipe_data_received", fd, data))

    def pipe_connection_lost(self, fd, exc):
        self.calls.append(("pipe_connection_lost", fd, exc))

    def process_exited(self):
        self.calls.append(("process_exited",))
        self.exited.set_result(None)

    def connection_lost(self, exc):
        self.calls.append(("connection_lost", exc))
        self.lost.set_result(exc)


async def within(awaitable, seconds=10):
    return await asyncio.wait_for(awaitable, seconds)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- the protocol ----------------------------------------------------------------------------------------------------


def test_a_protocol_hears_of_everything_and_of_the_loss_last(loop):
    async def main():
        transport, protocol = await loop.subprocess_exec(
            Recorder, PYTHON, "-c", "import sys; sys.stderr.write('err'); print(sys.stdin.read()); sys.exit(3)"
        )
        assert protocol.calls == [("connection_made", transport)]
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"hello")
        stdin.write_eof()
        assert await within(protocol.lost) is None
        assert protocol.data == {1: b"hello\n", 2: b"err"}
        assert transport.get_returncode() == 3
        assert protocol.names[0] == "connection_made"
        assert protocol.names[-1] == "connection_lost"
        lost = {fd for name, *rest in protocol.calls if name == "pipe_connection_lost" for fd in rest[:1]}
        assert lost == {0, 1, 2}
        for name in ("process_exited", "connection_lost"):
            assert protocol.names.count(name) == 1
        transport.close()

    loop.run_until_complete(main())


def test_the_loss_waits_for_pipes_that_a_grandchild_holds(loop):
    async def main():
        transport, protocol = await loop.subprocess_shell(Recorder, "(sleep 0.3; echo late) & exit 0")
        await within(protocol.exited)
        assert transport.get_returncode() == 0
        assert not protocol.lost.done()
        await within(protocol.lost)
        assert protocol.data[1] == b"late\n"
        transport.close()

    loop.run_until_complete(main())


def test_exceptions_of_the_protocol_are_reported_and_change_nothing(loop):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    class Failing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise ArithmeticError("made")

        def pipe_data_received(self, fd, data):
            super().pipe_data_received(fd, data)
            raise ArithmeticError("data")

        def process_exited(self):
            super().process_exited()
            raise ArithmeticError("exited")

        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise ArithmeticError("lost")

    async def main():
        transport, protocol = await loop.subprocess_shell(Failing, "echo out", stdin=None, stderr=None)
        await within(protocol.lost)
        await asyncio.sleep(0)
        transport.close()

    loop.run_until_complete(main())
    assert {str(context["exception"]) for context in contexts} == {"made", "data", "exited", "lost"}


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


def test_a_protocol_can_be_replaced(loop):
    async def main():
        transport, first = await loop.subprocess_shell(Recorder, "cat", stderr=None)
        second = Recorder()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        transport.get_pipe_transport(0).write(b"data")
        transport.get_pipe_transport(0).close()
        await within(second.lost)
        assert (first.data[1], second.data[1]) == (b"", b"data")
        transport.close()

    loop.run_until_complete(main())


# --- signals to the child --------------------------------------------------------------------------------------------


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


# --- starting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keywords, words",
    [
        ({"universal_newlines": True}, "universal_newlines must be False"),
        ({"bufsize": 4096}, "bufsize must be 0"),
        ({"text": True}, "text must be False"),
        ({"encoding": "utf-8"}, "encoding must be None"),
        ({"errors": "strict"}, "errors must be None"),
    ],
)
def test_keywords_that_make_text_are_refused(loop, keywords, words):
    async def main():
        with pytest.raises(ValueError, match=words):
            await loop.subprocess_exec(Recorder, "true", **keywords)
        with pytest.raises(ValueError, match=words):
            await loop.subprocess_shell(Recorder, "true", **keywords)

    loop.run_until_complete(main())


def test_the_shell_cannot_be_chosen_by_keyword(loop):
    async def main():
        with pytest.raises(ValueError, match="shell must be False"):
            await loop.subprocess_exec(Recorder, "true", shell=True)
        with pytest.raises(ValueError, match="shell must be True"):
            await loop.subprocess_shell(Recorder, "true", shell=False)
        with pytest.raises(ValueError, match="cmd must be a string"):
            await loop.subprocess_shell(Recorder, ["true"])
        with pytest.raises(TypeError):
            await loop.subprocess_exec(Recorder)

    loop.run_until_complete(main())


@pytest.mark.parametrize("keywords", [{"shell": None}, {"universal_newlines": None}, {"text": None}, {"bufsize": 0}])
def test_keywords_that_change_nothing_are_taken(loop, keywords):
    async def main():
        transport, protocol = await loop.subprocess_exec(Recorder, "true", **keywords)
        await within(protocol.lost)
        transport.close()

    loop.run_until_complete(main())


TELL_ALL = """
import os, sys
print(os.environ["WORD"], os.getcwd(), os.read(int(sys.argv[1]), 10).decode(), sep="\\n")
print(os.getpgid(0) == os.getsid(0) == os.getpid(), os.umask(0))
"""


def test_popens_keywords_reach_the_child(loop, tmp_path):
    async def main():
        process = await asyncio.create_subprocess_exec(
            PYTHON,
            "-c",
            TELL_ALL,
            str(kept),
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env={**os.environ, "WORD": "from the environment"},
            pass_fds=[kept],
            start_new_session=True,
            umask=0o027,
        )
        output, _ = await within(process.communicate())
        expected = ["from the environment", os.path.realpath(tmp_path), "passed", f"True {0o027}", ""]
        assert output.decode().split("\n") == expected

    kept, writer = os.pipe()
    os.write(writer, b"passed")
    os.close(writer)
    loop.run_until_complete(main())
    os.close(kept)


def test_an_executable_of_another_name_and_bytes_and_paths_are_arguments(loop, tmp_path):
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/sh\necho $1\n")
    script.chmod(0o755)

    async def main():
        for arguments, keywords in (((script, b"bytes"), {}), (("another name", "text"), {"executable": script})):
            process = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE, **keywords)
            output, _ = await within(process.communicate())
            assert output in (b"bytes\n", b"text\n")

    loop.run_until_complete(main())


def test_a_program_that_does_not_exist_is_an_error(loop):
    async def main():
        with pytest.raises(FileNotFoundError) as caught:
            await asyncio.create_subprocess_exec("/no/such/program")
        assert caught.value.filename == "/no/such/program"
        with pytest.raises(PermissionError):
            await asyncio.create_subprocess_exec("/")

    loop.run_until_complete(main())


def test_streams_can_be_files_devnull_and_each_other(loop, tmp_path):
    async def main():
        with open(tmp_path / "out", "wb") as file:
            process = await asyncio.create_subprocess_shell(
                "cat; echo to stderr >&2", stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )
            assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
            assert await within(process.wait()) == 0
        assert (tmp_path / "out").read_bytes() == b"to stderr\n"
        process = await asyncio.create_subprocess_shell(
            "echo one; echo two >&2", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert await within(process.communicate()) == (b"one\ntwo\n", None)

    loop.run_until_complete(main())


def test_the_child_can_open_its_stdin_and_stdout_again(loop):
    async def main():
        process = await asyncio.create_subprocess_shell(
            "cat < /dev/stdin > /dev/stdout", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert await within(process.communicate(b"through the back door")) == (b"through the back door", None)
        assert process.returncode == 0

    loop.run_until_complete(main())


LIST_DESCRIPTORS = "import os; print(sorted(map(int, os.listdir('/dev/fd'))))"


def test_the_child_inherits_nothing_of_the_loop(new_loop):
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    before = subprocess.run(
        [PYTHON, "-c", LIST_DESCRIPTORS], stdout=subprocess.PIPE, close_fds=False, check=True
    ).stdout

    async def main():
        other = await asyncio.create_subprocess_exec("cat", **streams)
        process = await asyncio.create_subprocess_exec(PYTHON, "-c", LIST_DESCRIPTORS, close_fds=False, **streams)
        assert await within(process.communicate()) == (before, b"")
        other.stdin.close()
        await within(other.wait())

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def test_cancelling_the_start_ends_the_child_first(loop, monkeypatch):
    children = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **keywords):
            super().__init__(*args, **keywords)
            children.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)

    async def main():
        for turns in range(4):
            task = asyncio.ensure_future(loop.subprocess_exec(Recorder, "sleep", "100"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                transport, _ = await within(task)
            except asyncio.CancelledError:
                assert all(child.returncode == -signal.SIGKILL for child in children)
            else:
                transport.close()
                await within(transport._wait())
        assert children
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())


def test_a_factory_that_fails_starts_nothing(loop):
    def factory():
        raise ArithmeticError

    async def main():
        with pytest.raises(ArithmeticError):
            await loop.subprocess_exec(factory, "/no/such/program")

    loop.run_until_complete(main())


# --- asyncio.create_subprocess_* -------------------------------------------------------------------------------------


def test_communicate_carries_more_than_a_pipe_holds_both_ways(loop):
    data = os.urandom(1 << 20)

    async def main():
        process = await asyncio.create_subprocess_exec(
            PYTHON,
            "-c",
            "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data); sys.stderr.buffer.write(data[::-1])",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert await within(process.communicate(data)) == (data, data[::-1])
        assert process.returncode == 0

    loop.run_until_complete(main())


def test_lines_can_be_talked_about(loop):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for number in range(100):
            process.stdin.write(b"line %d\n" % number)
            await process.stdin.drain()
            assert await within(process.stdout.readline()) == b"line %d\n" % number
        process.stdin.close()
        await within(process.stdin.wait_closed())
        assert await within(process.wait()) == 0

    loop.run_until_complete(main())


def test_a_writer_to_a_child_that_left_hears_of_it(loop):
    async def main():
        process = await asyncio.create_subprocess_exec("true", stdin=subprocess.PIPE)
        await within(process.wait())
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(10):
                process.stdin.write(b"x" * 65536)
                await process.stdin.drain()
                await asyncio.sleep(0.01)

    loop.run_until_complete(main())


def test_wait_returns_to_everybody_who_waits_and_at_once_afterwards(loop):
    async def main():
        process = await asyncio.create_subprocess_shell("sleep 0.1; exit 7")
        assert await within(asyncio.gather(*(process.wait() for _ in range(5)))) == [7] * 5
        assert await within(process.wait()) == 7
        assert process.returncode == 7

    loop.run_until_complete(main())


def test_wait_returns_when_this_cpythons_does(loop):
    """With the child alone, or only when its pipes are closed too: it changed within 3.12 and 3.13."""

    async def main():
        transport, protocol = await loop.subprocess_shell(Recorder, "sleep 0.1; sleep 0.3 & exit 7")
        assert await within(transport._wait()) == 7
        assert protocol.lost.done() is not _helpers.WAIT_IS_FOR_THE_CHILD_ALONE
        await within(protocol.lost)
        transport.close()

    loop.run_until_complete(main())


def test_a_cancelled_wait_leaves_the_child_alone(loop):
    async def main():
        process = await asyncio.create_subprocess_shell("sleep 0.2; exit 7")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), 0.01)
        assert await within(process.wait()) == 7

    loop.run_until_complete(main())


def test_many_children_at_once(loop):
    async def child(number):
        process = await asyncio.create_subprocess_shell(f"echo {number}; exit {number % 256}", stdout=subprocess.PIPE)
        output, _ = await process.communicate()
        return int(output), process.returncode

    async def main():
        assert await asyncio.gather(*map(child, range(150))) == [(number, number % 256) for number in range(150)]

    loop.run_until_complete(main())


def test_nothing_is_left_of_a_child(loop):
    async def main():
        async def once():
            process = await asyncio.create_subprocess_shell("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            await within(process.communicate(b"x"))
            return process.pid

        await once()
        await asyncio.sleep(0.05)
        before = os.listdir("/dev/fd")
        pids = [await once() for _ in range(20)]
        await asyncio.sleep(0.05)
        assert os.listdir("/dev/fd") == before
        assert not any(map(is_alive, pids))

    loop.run_until_complete(main())


# --- who else looks at children --------------------------------------------------------------------------------------


def test_sigchld_belongs_to_the_user(loop):
    seen = []
    former = signal.signal(signal.SIGCHLD, lambda number, frame: seen.append(number))
    try:

        async def main():
            process = await asyncio.create_subprocess_exec("sleep", "0.05")
            assert await within(process.wait()) == 0
            await asyncio.sleep(0.01)

        loop.run_until_complete(main())
    finally:
        signal.signal(signal.SIGCHLD, former)
    assert seen and set(seen) == {signal.SIGCHLD}


def test_a_status_that_somebody_else_took_is_reported_as_255(loop, caplog):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE)
        # The loop does not turn between the end and the taking.
        os.close(process._transport.get_extra_info("subprocess").stdin.fileno())
        os.waitpid(process.pid, 0)
        assert await within(process.wait()) == 255
        assert "255" in caplog.text

    # On the stock loop of 3.11 a thread waits, and may win.
    if sys.version_info >= (3, 12) or isinstance(loop, ferrio.EventLoop):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            loop.run_until_complete(main())
            loop.run_until_complete(asyncio.sleep(0.01))


# The stock loop does not know what its own Popen object found out, and says 255.
def test_asking_the_popen_object_does_not_hide_the_status():
    async def main():
        process = await asyncio.create_subprocess_shell("exit 7")
        child = process._transport.get_extra_info("subprocess")
        while child.poll() is None:
            time.sleep(0.001)
        assert await within(process.wait()) == 7

    ferrio.run(main())


def test_children_of_a_loop_in_another_thread(new_loop):
    import threading

    results = []

    def other_thread():
        async def main():
            process = await asyncio.create_subprocess_shell(
                "cat; exit 3", stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            results.append((await within(process.communicate(b"hello")), process.returncode))

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join(20)
    assert results == [((b"hello", None), 3)]


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


def test_a_pipe_that_cannot_be_connected_ends_the_child():
    loop = ferrio.new_event_loop()

    async def connect_read_pipe(factory, file):
        raise ArithmeticError

    async def main():
        loop.connect_read_pipe = connect_read_pipe
        with pytest.raises(ArithmeticError):
            await within(loop.subprocess_exec(Recorder, "sleep", "100"))
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.run_until_complete(main())
        loop.close()
        gc.collect()


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
