"""System calls fail: whoever is concerned is told, and nothing hangs, leaks, or spins."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from . import failing_calls
from .programs import TIMEOUT

COMPILER = shutil.which("cc")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="what is put before the C library is Linux's"),
    pytest.mark.skipif(COMPILER is None, reason="there is no C compiler"),
]

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def run_failing(tmp_path_factory):
    """Runs Python with arguments under the shim; returns what it printed."""
    shim = tmp_path_factory.mktemp("failing") / "failing_calls.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", shim, HERE / "failing_calls.c", "-ldl"], check=True)
    environment = dict(os.environ, LD_PRELOAD=str(shim))

    def run(*arguments):
        command = [sys.executable, "-X", "faulthandler", *arguments]
        options = {"capture_output": True, "text": True, "timeout": TIMEOUT, "env": environment}
        done = subprocess.run(command, cwd=HERE.parent.parent, **options)
        assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "panicked" not in done.stderr, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("program", [program.__name__ for program in failing_calls.PROGRAMS])
def test_every_call_of_a_program_may_fail(run_failing, program):
    *complaints, cases = run_failing("-m", "tests.audit.failing_calls", program).splitlines()
    assert complaints == []
    assert int(cases.split()[0]) > 10, "hardly a call was reached"


FAILING = """
import asyncio, ctypes, errno, os, socket, sys
import ferrio
from ferrio import _ferrio, observe

shim = ctypes.PyDLL(None)
shim.relent.restype = ctypes.c_long
FOR_EVER = 1 << 30
told = []

def fail(function, code, times=1):
    shim.fail(function, ctypes.c_long(1), ctypes.c_long(times), code)
"""

SERVER = (
    FAILING
    + """
class Greeting(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")
        transport.close()

async def main(trouble):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: told.append((context["message"], context["exception"].errno)))
    server = await loop.create_server(Greeting, "127.0.0.1", 0)
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, server.sockets[0].getsockname())
        await trouble(loop)
        print((await loop.sock_recv(client, 10)).decode())
    server.close()
    print(told)
"""
)


def test_a_server_that_cannot_accept_does_not_spin(run_failing):
    printed = run_failing(
        "-c",
        SERVER
        + """
async def trouble(loop):
    fail(b"accept4", errno.EINVAL, FOR_EVER)
    await asyncio.sleep(0.5)
    assert shim.relent() == 1

ferrio.run(main(trouble))
""",
    )
    assert printed == f"hello\n{[('socket.accept() failed', errno.EINVAL)]}\n"


def test_a_server_accepts_again_even_if_it_could_not_be_watched_at_once(run_failing):
    printed = run_failing(
        "-c",
        SERVER
        + """
async def trouble(loop):
    fail(b"accept4", errno.EMFILE)
    await asyncio.sleep(0.5)
    fail(b"epoll_ctl", errno.ENOMEM)
    while len(told) < 2:
        await asyncio.sleep(0.05)

ferrio.run(main(trouble))
""",
    )
    message = "socket.accept() out of system resource"
    assert printed == f"hello\n{[(message, errno.EMFILE), (message, errno.ENOMEM)]}\n"


@pytest.mark.parametrize(
    ("connect", "protocol"),
    [
        ("loop.create_connection(Told, *server.getsockname())", "Protocol"),
        ("loop.create_datagram_endpoint(Told, remote_addr=server.getsockname())", "DatagramProtocol"),
    ],
)
def test_what_cannot_be_watched_from_the_beginning_is_no_connection(run_failing, connect, protocol):
    printed = run_failing(
        "-c",
        FAILING
        + f"""
class Told(asyncio.{protocol}):
    def connection_lost(self, error):
        told.append(error)

async def main():
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        fail(b"epoll_ctl", errno.ENOMEM)
        try:
            await {connect}
        except OSError as error:
            told.append(error)
    print([error.errno == errno.ENOMEM for error in told])

ferrio.run(main())
""",
    )
    assert printed == "[True, True]\n"


@pytest.mark.parametrize("number", range(1, 5))
def test_a_reader_is_heard_even_if_there_is_no_room_for_another_poller(run_failing, number):
    """A socket that was watched is closed and lives on under another number: the poller reports it until another takes its
    place, which is to know what the former has known."""
    printed = run_failing(
        "-c",
        FAILING
        + f"""
async def main():
    loop = asyncio.get_running_loop()
    ours, peer = socket.socketpair()
    stale, far = socket.socketpair()
    arrived = asyncio.Event()
    loop.add_reader(ours, arrived.set)
    loop.add_reader(stale, told.append)
    await asyncio.sleep(0)
    loop.remove_reader(stale)
    with socket.socket(fileno=os.dup(stale.fileno())):
        stale.close()
        shim.fail(b"epoll_ctl", ctypes.c_long({number}), ctypes.c_long(1), errno.ENOMEM)
        far.send(b"x")
        await asyncio.sleep(0.05)
        assert shim.relent() >= {number}
        peer.send(b"x")
        await asyncio.wait_for(arrived.wait(), 10)
    loop.remove_reader(ours)
    print("heard", told)

ferrio.run(main())
""",
    )
    assert printed == "heard []\n"


def test_a_forked_child_is_told_that_there_is_no_room_for_what_its_loop_watches(run_failing):
    printed = run_failing(
        "-c",
        FAILING
        + """
loop = ferrio.new_event_loop()
ours, peer = socket.socketpair()
loop.add_reader(ours, print)
loop.run_until_complete(asyncio.sleep(0))
if (pid := os.fork()) == 0:
    shim.fail(b"epoll_ctl", ctypes.c_long(2), ctypes.c_long(1), errno.ENOMEM)
    try:
        loop.run_until_complete(asyncio.sleep(0.01))
    except OSError as error:
        os._exit(error.errno)
    os._exit(0)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == errno.ENOMEM
loop.call_soon(peer.send, b"x")
loop.call_later(0.05, loop.stop)
loop.remove_reader(ours)
loop.add_reader(ours, lambda: print(ours.recv(10)))
loop.run_forever()
loop.close()
""",
    )
    assert printed == "b'x'\n"


@pytest.mark.parametrize("function", ["ftruncate64", "posix_fallocate", "open64", "mmap"])
def test_a_loop_without_room_for_its_page_does_without(run_failing, function):
    printed = run_failing(
        "-c",
        FAILING
        + f"""
fail(b"{function}", errno.ENOSPC, FOR_EVER)
loop = ferrio.new_event_loop()
assert shim.relent()
print(_ferrio.page_path())
print(loop.run_until_complete(asyncio.sleep(0.01, "slept")), observe.loop_stats(loop).steps > 0)
loop.close()
""",
    )
    assert printed == "None\nslept True\n"


def test_a_full_tmpfs_has_no_room_for_the_ring_and_is_not_asked_for_it_by_a_reader(run_failing, tmp_path):
    printed = run_failing(
        "-c",
        FAILING
        + """
async def main():
    fail(b"posix_fallocate", errno.ENOSPC, FOR_EVER)
    before = os.stat(_ferrio.page_path()).st_blocks
    observe.level("flight")
    await asyncio.sleep(0.01)
    print(observe.dump(sys.argv[1]), os.stat(_ferrio.page_path()).st_blocks - before)

ferrio.run(main())
""",
        str(tmp_path / "saved"),
    )
    assert printed == "0 0\n"


def test_the_level_deep_says_once_that_there_is_no_room(run_failing):
    printed = run_failing(
        "-c",
        FAILING
        + """
sys.unraisablehook = lambda unraisable: told.append(unraisable.exc_value.errno)

async def main():
    observe.level("deep")
    await asyncio.sleep(0.01)
    fail(b"write", errno.ENOSPC, FOR_EVER)
    for _ in range(100):
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert shim.relent()

ferrio.run(main())
print(told == [errno.ENOSPC])
""",
    )
    assert printed == "True\n"
