"""What is freed and when, and how a loop gets along with the process around it: signals, children, forks, threads, the kernel."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
import weakref

import greenlet
import pytest

from .support import (
    LOCALHOST,
    Recorder,
    in_thread,
    open_descriptors,
    run_python,
    transport_over,
    turns,
    until,
    within,
)


class Thing:
    """Something to hold a weak reference to, that can be called."""

    def __call__(self, *args):
        pass


def collect():
    for _ in range(3):
        gc.collect()


# garbage collection


def protocol_over_tcp(loop, keep):
    ours, peer = socket.socketpair()
    keep.append(peer)
    return loop.run_until_complete(transport_over(ours))


def protocol_over_tcp_with_a_full_buffer(loop, keep):
    transport, protocol = protocol_over_tcp(loop, keep)
    transport.write(bytes(8 << 20))
    return transport, protocol


def paused_protocol_over_tcp(loop, keep):
    transport, protocol = protocol_over_tcp(loop, keep)
    transport.pause_reading()
    return transport, protocol


def protocol_over_udp(loop, keep):
    class Protocol(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

    return loop.run_until_complete(loop.create_datagram_endpoint(Protocol, (LOCALHOST, 0)))


def protocol_over_a_read_pipe(loop, keep):
    read_end, write_end = os.pipe()
    keep.append(open(write_end, "wb", 0))
    return loop.run_until_complete(loop.connect_read_pipe(Recorder, open(read_end, "rb", 0)))


def protocol_over_a_write_pipe(loop, keep):
    read_end, write_end = os.pipe()
    keep.append(open(read_end, "rb", 0))
    return loop.run_until_complete(loop.connect_write_pipe(Recorder, open(write_end, "wb", 0)))


def protocol_of_a_process(loop, keep):
    class Protocol(asyncio.SubprocessProtocol):
        def connection_made(self, transport):
            self.transport = transport
            self.exited = asyncio.get_running_loop().create_future()

        def process_exited(self):
            self.exited.set_result(None)

    async def start():
        transport, protocol = await loop.subprocess_exec(Protocol, sys.executable, "-c", "")
        await within(protocol.exited)
        return transport, protocol

    made = loop.run_until_complete(start())
    # Until 3.11 asyncio waits for a child in a thread, [asyncio-]waitpid-0, which knows the loop until it has ended.
    for thread in threading.enumerate():
        if "waitpid-" in thread.name:
            thread.join()
    return made


TRANSPORTS = [
    protocol_over_tcp,
    protocol_over_tcp_with_a_full_buffer,
    paused_protocol_over_tcp,
    protocol_over_udp,
    protocol_over_a_read_pipe,
    protocol_over_a_write_pipe,
    protocol_of_a_process,
]


@pytest.mark.parametrize("make", TRANSPORTS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_is_dropped_takes_its_transports_and_protocols_along(new_event_loop, make):
    keep = []
    # What a process opens with its first loop stays open.
    new_event_loop().close()
    collect()
    before = open_descriptors()
    loop = new_event_loop()
    transport, protocol = make(loop, keep)
    protocol.loop = loop
    dead = [weakref.ref(protocol), weakref.ref(loop)]
    del loop, transport, protocol
    collect()
    assert [ref() for ref in dead] == [None, None]
    keep.clear()
    collect()
    assert open_descriptors() == before


@pytest.mark.parametrize("make", TRANSPORTS)
def test_a_closed_transport_and_its_protocol_are_freed(loop, run, make):
    keep = []
    transport, protocol = make(loop, keep)
    transport.abort() if hasattr(transport, "abort") else transport.close()
    run(turns(5))
    dead = weakref.ref(protocol)
    del transport, protocol
    collect()
    assert dead() is None
    for thing in keep:
        thing.close()


def test_a_tls_transport_and_its_protocol_are_freed(loop, run, sockets, client_tls, server_tls):
    async def main():
        server_side = asyncio.ensure_future(loop.connect_accepted_socket(Recorder, sockets[1], ssl=server_tls))
        transport, protocol = await transport_over(sockets[0], ssl=client_tls, server_hostname="localhost")
        other, other_protocol = await server_side
        transport.close()
        await within(protocol.lost)
        await within(other_protocol.lost)
        return [weakref.ref(thing) for thing in (protocol, other_protocol)]

    dead = run(main())
    run(turns(3))
    collect()
    assert [ref() for ref in dead] == [None, None]


async def wait_for_ever(thing):
    await asyncio.get_running_loop().create_future()


async def receive(thing, sock):
    await asyncio.get_running_loop().sock_recv(sock, 10)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    "what",
    [
        "call_soon",
        "call_later",
        "call_soon_threadsafe",
        "add_reader",
        "add_writer",
        "task",
        "sock_recv",
        "signal",
        "server",
        "handler",
        "factory",
        "executor future",
    ],
)
def test_cycles_through_a_loop_that_was_closed_are_freed(new_event_loop, what):
    loop = new_event_loop()
    thing = Thing()
    thing.loop = loop
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    if what == "call_later":
        thing.handle = loop.call_later(60, thing, thing)
    elif what.startswith("call"):
        thing.handle = getattr(loop, what)(thing, thing)
    elif what.startswith("add"):
        getattr(loop, what)(ours, thing, thing)
    elif what == "signal":
        loop.add_signal_handler(signal.SIGUSR1, thing, thing)
    elif what == "handler":
        loop.set_exception_handler(thing)
    elif what == "factory":
        loop.set_task_factory(thing)
    elif what == "task":
        thing.task = loop.create_task(wait_for_ever(thing))
        thing.task._log_destroy_pending = False
        loop.run_until_complete(turns(2))
    elif what == "sock_recv":
        thing.task = loop.create_task(receive(thing, ours))
        thing.task._log_destroy_pending = False
        loop.run_until_complete(turns(2))
    elif what == "server":
        thing.server = loop.run_until_complete(loop.create_server(thing, LOCALHOST, 0))
        thing.server.close()
        loop.run_until_complete(turns(2))
    else:
        thing.future = loop.run_in_executor(None, thing, thing)
        loop.run_until_complete(thing.future)
        loop.run_until_complete(loop.shutdown_default_executor())
    dead = [weakref.ref(thing), weakref.ref(loop)]
    loop.close()
    ours.close()
    peer.close()
    del loop, thing
    collect()
    assert [ref() for ref in dead] == [None, None]


def test_a_loop_takes_attributes_and_weak_references(loop):
    loop.an_attribute_of_mine = 1
    assert loop.an_attribute_of_mine == 1
    assert weakref.ref(loop)() is loop
    assert weakref.WeakKeyDictionary({loop: 1})[loop] == 1
    assert {loop: 1}[loop] == 1


def test_a_callback_and_its_arguments_are_let_go_once_it_ran(loop, run):
    thing, argument = Thing(), Thing()
    dead = [weakref.ref(thing), weakref.ref(argument)]
    loop.call_soon(thing, argument)
    loop.call_later(0.001, thing, argument)
    loop.call_soon_threadsafe(thing, argument)
    del thing, argument
    run(asyncio.sleep(0.01))
    assert [ref() for ref in dead] == [None, None]


@pytest.mark.parametrize("how", ["call_soon", "call_soon_threadsafe", "call_later", "add_reader", "add_writer"])
def test_a_callback_may_cancel_its_own_handle_while_it_runs(loop, run, sockets, how):
    ours, peer = sockets
    peer.send(b"x")
    seen = []

    class Argument:
        value = 7

    def callback(argument):
        if how.startswith("add"):
            getattr(loop, how.replace("add", "remove"))(ours)
        else:
            handle.cancel()
        collect()
        argument.again = list(range(100))
        seen.append(argument.value)

    if how == "call_later":
        handle = loop.call_later(0.001, callback, Argument())
    elif how.startswith("add"):
        getattr(loop, how)(ours, callback, Argument())
    else:
        handle = getattr(loop, how)(callback, Argument())
    run(until(lambda: seen))
    assert seen == [7]
    if not how.startswith("add"):
        assert handle.cancelled()


def test_a_signal_handler_may_remove_itself_while_it_runs(loop, run):
    seen = []

    def callback(argument):
        assert loop.remove_signal_handler(signal.SIGUSR1) is True
        collect()
        seen.append(argument.value)

    class Argument:
        value = 7

    loop.add_signal_handler(signal.SIGUSR1, callback, Argument())
    os.kill(os.getpid(), signal.SIGUSR1)
    run(until(lambda: seen))


# resource warnings


@pytest.mark.parametrize("make", TRANSPORTS)
def test_an_unclosed_transport_warns(new_event_loop, make):
    keep = []
    loop = new_event_loop()
    with contextlib.closing(loop):
        transport, protocol = make(loop, keep)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del loop, transport, protocol
        collect()
    texts = [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)]
    assert any(text.startswith("unclosed transport <") for text in texts), texts
    keep.clear()
    collect()


def test_an_unclosed_loop_warns(new_event_loop):
    loop = new_event_loop()
    with pytest.warns(ResourceWarning, match="unclosed event loop <.*>"):
        del loop
        collect()


def test_what_was_closed_does_not_warn(new_event_loop):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop = new_event_loop()
        keep = []
        for make in TRANSPORTS:
            transport, _ = make(loop, keep)
            transport.abort() if hasattr(transport, "abort") else transport.close()
            loop.run_until_complete(turns(5))
        loop.close()
        for thing in keep:
            thing.close()
        del loop, transport, _
        collect()
    assert [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)] == []


# greenlets


def test_a_loop_survives_a_greenlet_switch_out_of_a_callback(new_event_loop):
    """The stack below the callback is copied away and back: nothing may point into it."""
    order = []

    def deep(n):
        return n and deep(n - 1) + 1

    def leave_and_come_back(n, back):
        greenlet.getcurrent().parent.switch(n)
        order.append(n)
        back.set_result(None)

    async def main():
        loop = asyncio.get_running_loop()
        for n in range(20):
            back = loop.create_future()
            loop.call_soon(leave_and_come_back, n, back)
            await back
            await asyncio.sleep(0.0001)
        return "done"

    def run_loop():
        loop = new_event_loop()
        try:
            return loop.run_until_complete(main())
        finally:
            loop.close()

    inside = greenlet.greenlet(run_loop)
    answer = inside.switch()
    while not inside.dead:
        assert answer == len(order)
        # Another loop may run meanwhile, and the C stack is used for other things.
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        other = new_event_loop()
        other.call_soon(deep, 100)
        other.run_until_complete(asyncio.sleep(0.0001))
        other.close()
        asyncio._set_running_loop(running)
        gc.collect()
        answer = inside.switch()
    assert answer == "done"
    assert order == list(range(20))


# signals


@contextlib.contextmanager
def handled(signum, handler):
    former = signal.signal(signum, handler)
    try:
        yield
    finally:
        signal.signal(signum, former)


def kill_soon(signum, delay=0.02):
    timer = threading.Timer(delay, os.kill, [os.getpid(), signum])
    timer.start()
    return timer


def test_a_python_signal_handler_runs_while_the_loop_is_blocked(loop, run):
    seen = []

    async def main():
        kill_soon(signal.SIGUSR1)
        started = time.monotonic()
        await asyncio.sleep(1)
        assert time.monotonic() - started >= 1
        return started

    with handled(signal.SIGUSR1, lambda signum, frame: seen.append(time.monotonic())):
        started = run(main())
    assert len(seen) == 1
    assert seen[0] - started < 1, "the handler waited for the loop to wake up"


def test_a_storm_of_signals_cuts_no_sleep_short_and_leaks_no_error(loop, run):
    seen = []

    def storm():
        for _ in range(200):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.0005)

    async def main():
        thread = threading.Thread(target=storm)
        thread.start()
        while thread.is_alive():
            before = loop.time()
            await asyncio.sleep(0.01)
            assert loop.time() - before >= 0.01
        thread.join()

    with handled(signal.SIGUSR1, lambda signum, frame: seen.append(signum)):
        run(main())
    assert len(seen) > 10


def test_what_a_python_signal_handler_raises_leaves_the_loop(loop, run):
    class Alarm(BaseException):
        pass

    def raise_it(signum, frame):
        raise Alarm

    loop.set_exception_handler(None)
    with handled(signal.SIGUSR1, raise_it):
        kill_soon(signal.SIGUSR1)
        with pytest.raises(Alarm):
            run(asyncio.sleep(5))
    assert not loop.is_running()
    run(turns(2))


def test_control_c_cancels_the_main_task_of_a_runner(new_event_loop):
    cancelled = []

    async def main():
        try:
            kill_soon(signal.SIGINT)
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
    assert cancelled == [True]


def test_control_c_leaves_run_forever(new_event_loop):
    with contextlib.closing(new_event_loop()) as loop:
        loop.call_later(5, loop.stop)
        kill_soon(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        assert not loop.is_running()


def test_add_signal_handler_calls_back_and_removing_restores_the_default(loop, run):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "second")  # Replaces the first.
    os.kill(os.getpid(), signal.SIGUSR1)
    run(until(lambda: seen))
    assert seen == ["second"]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    loop.add_signal_handler(signal.SIGINT, seen.append, "int")
    os.kill(os.getpid(), signal.SIGINT)
    run(until(lambda: "int" in seen))
    loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_several_loops_in_turn_each_get_their_signals(new_event_loop):
    for n in range(3):
        with contextlib.closing(new_event_loop()) as loop:
            seen = []
            loop.add_signal_handler(signal.SIGUSR1, seen.append, n)
            os.kill(os.getpid(), signal.SIGUSR1)
            loop.run_until_complete(until(lambda: seen))
            assert seen == [n]
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


@pytest.fixture
def wakeup():
    """A wake-up descriptor of the user's own."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    former = signal.set_wakeup_fd(theirs.fileno())
    yield theirs.fileno()
    signal.set_wakeup_fd(former)
    ours.close()
    theirs.close()


def current_wakeup_fd():
    number = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(number)
    return number


def test_a_loop_that_ran_leaves_the_wakeup_descriptor_of_the_process_as_it_was(new_event_loop, wakeup):
    with contextlib.closing(new_event_loop()) as loop:
        loop.run_until_complete(asyncio.sleep(0.001))
        assert current_wakeup_fd() == wakeup
    assert current_wakeup_fd() == wakeup


@pytest.mark.stock_differs("it sets the wake-up descriptor to -1 when its last signal handler is removed")
def test_a_loop_with_signal_handlers_gives_the_wakeup_descriptor_back(new_event_loop, wakeup):
    with contextlib.closing(new_event_loop()) as loop:
        seen = []
        loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
        os.kill(os.getpid(), signal.SIGUSR1)
        loop.run_until_complete(until(lambda: seen))
    assert current_wakeup_fd() == wakeup


def test_a_loop_in_another_thread_works_and_refuses_signal_handlers(new_event_loop):
    results = []

    def other_thread():
        async def main():
            loop = asyncio.get_running_loop()
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(5)")
            results.append(await within(process.wait(), 10))
            try:
                loop.add_signal_handler(signal.SIGUSR1, print)
            except RuntimeError as error:
                results.append(type(error))

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())

    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(asyncio.ThreadedChildWatcher())
    try:
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
    finally:
        if sys.version_info < (3, 12):
            asyncio.set_child_watcher(None)
    assert results == [5, RuntimeError]


def test_sigchld_belongs_to_the_user(loop, run):
    seen = []

    async def main():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
        assert await within(process.wait(), 10) == 3
        await until(lambda: seen)
        assert signal.getsignal(signal.SIGCHLD) is handler

    def handler(signum, frame):
        seen.append(signum)

    with handled(signal.SIGCHLD, handler):
        run(main())


def test_children_of_others_are_not_reaped(loop, run):
    async def main():
        other = subprocess.Popen([sys.executable, "-c", "raise SystemExit(9)"])
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
        assert await within(process.wait(), 10) == 3
        await asyncio.sleep(0.1)
        assert await in_thread(other.wait) == 9

    run(main())


# child processes


def test_exit_statuses_and_signals_are_told(loop, run):
    async def main():
        for code, expected in (
            ("", 0),
            ("raise SystemExit(7)", 7),
            ("import os; os.kill(os.getpid(), 9)", -9),
            ("import os; os.abort()", -signal.SIGABRT),
        ):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            assert await within(process.wait(), 10) == expected
            assert process.returncode == expected

    run(main())


def test_communicate_carries_much_both_ways(loop, run):
    data = os.urandom(3 << 20)

    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import sys; d = sys.stdin.buffer.read(); sys.stderr.write(str(len(d))); sys.stdout.buffer.write(d)",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await within(process.communicate(data), 15)
        assert out == data
        assert err == str(len(data)).encode()

    run(main())


def test_many_children_at_once_are_all_waited_for(loop, run):
    async def one(n):
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", f"echo {n}; exit {n}", stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        assert (int(out), process.returncode) == (n, n)

    async def main():
        await within(asyncio.gather(*(one(n) for n in range(60))), 25)

    run(main())
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # No zombie is left.


def test_a_child_may_open_its_stdin_again(loop, run):
    async def main():
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", "cat /dev/stdin", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await within(process.communicate(b"through /dev/stdin"))
        assert (out, err) == (b"through /dev/stdin", b"")

    run(main())


def test_a_child_may_open_its_stdout_and_stderr_again(loop, run):
    async def main():
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            "echo out > /dev/stdout; echo err > /dev/stderr",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert await within(process.communicate()) == (b"out\n", b"err\n")

    run(main())


def test_a_child_inherits_nothing_but_its_standard_descriptors(loop, run):
    source = "import os; print(sorted(os.listdir('/proc/self/fd'), key=int))"

    async def main():
        first = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for close_fds in (True, False):
            second = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                source,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                close_fds=close_fds,
            )
            out, _ = await within(second.communicate())
            # What a child gets that this loop had nothing to do with: three, the directory being listed, what pytest left open.
            expected = subprocess.run(
                [sys.executable, "-c", source], stdin=subprocess.PIPE, capture_output=True, close_fds=close_fds
            ).stdout
            assert out == expected, f"close_fds={close_fds}"
        # No other child holds the first one's stdin open.
        third = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        first.stdin.close()
        assert await within(first.stdout.read()) == b""
        assert await within(first.wait()) == 0
        third.kill()
        assert await within(third.wait()) == -signal.SIGKILL

    run(main())


def test_the_end_of_a_process_comes_after_its_output(loop, run):
    events = []

    class Protocol(asyncio.SubprocessProtocol):
        def pipe_data_received(self, fd, data):
            events.append(("data", fd, bytes(data)))

        def pipe_connection_lost(self, fd, exc):
            events.append(("lost", fd))

        def process_exited(self):
            events.append(("exited",))

        def connection_lost(self, exc):
            events.append(("connection_lost", exc))

    async def main():
        transport, _ = await loop.subprocess_exec(
            Protocol, "/bin/sh", "-c", "echo out; echo err >&2; exit 4", stdin=None
        )
        await until(lambda: events and events[-1][0] == "connection_lost")
        assert transport.get_returncode() == 4
        assert transport.get_pid() > 0
        transport.close()

    run(main())
    assert ("data", 1, b"out\n") in events and ("data", 2, b"err\n") in events
    assert {("lost", 1), ("lost", 2), ("exited",)} < set(events)
    assert events[-1] == ("connection_lost", None)
    assert events.index(("data", 1, b"out\n")) < events.index(("lost", 1))


def test_a_program_that_does_not_exist_is_an_error_and_leaks_nothing(loop, run):
    async def main():
        await turns(2)
        before = open_descriptors()
        for _ in range(5):
            with pytest.raises(FileNotFoundError):
                await asyncio.create_subprocess_exec(
                    "/no/such/program", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
        await turns(5)
        collect()
        assert open_descriptors() == before

    run(main())


# forks


def test_a_forked_child_can_run_a_loop_of_its_own_and_the_parent_goes_on(loop_under_test):
    done = run_python(
        """
        import asyncio, os, socket, warnings
        warnings.simplefilter("ignore")

        async def child():
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            peer.send(b"x")
            await asyncio.sleep(0.01)
            return 40 + len(await asyncio.get_running_loop().sock_recv(ours, 10))

        async def main():
            loop = asyncio.get_running_loop()
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            got = []
            loop.add_reader(ours, lambda: got.append(ours.recv(10)))
            timer = loop.create_future()
            loop.call_later(0.05, timer.set_result, "the parent's timer")
            for _ in range(3):
                pid = os.fork()
                if pid == 0:
                    status = 1
                    try:
                        with asyncio.Runner(loop_factory=new_event_loop) as runner:
                            status = runner.run(child())
                    finally:
                        os._exit(status)
                print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                peer.send(b"event")
                await asyncio.sleep(0.01)
            print(got, await timer)

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    """,
        loop_under_test,
    )
    assert done.stdout.splitlines() == ["41", "41", "41", "[b'event', b'event', b'event'] the parent's timer"]


@pytest.mark.stock_differs("it shares the parent's epoll set, and takes the parent's registrations out of it")
def test_a_forked_child_that_touches_the_inherited_loop_does_not_disturb_the_parent(loop_under_test):
    done = run_python(
        """
        import asyncio, os, socket, warnings
        warnings.simplefilter("ignore")

        async def main():
            loop = asyncio.get_running_loop()
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            got = []
            loop.add_reader(ours, lambda: got.append(ours.recv(10)))
            await asyncio.sleep(0)
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    try:
                        loop.remove_reader(ours)
                        loop.add_reader(peer, print)
                        loop.call_soon(print, "in the child")
                        loop.call_soon_threadsafe(print, "in the child")
                    except RuntimeError as error:
                        assert str(error)
                    status = 0
                finally:
                    os._exit(status)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            peer.send(b"event")
            await asyncio.sleep(0.05)
            print(got)

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    """,
        loop_under_test,
    )
    assert done.stdout.splitlines() == ["0", "[b'event']"]


def test_a_pool_of_forked_processes_works_from_a_running_loop(loop_under_test):
    done = run_python(
        """
        import asyncio, concurrent.futures, multiprocessing, warnings
        warnings.simplefilter("ignore")

        async def main():
            with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
                loop = asyncio.get_running_loop()
                print(await asyncio.gather(*(loop.run_in_executor(pool, abs, -n) for n in range(10))))

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    """,
        loop_under_test,
    )
    assert done.stdout.strip() == str(list(range(10)))


# the kernel


@pytest.mark.parametrize("errno", [1, 38], ids=["EPERM", "ENOSYS"])
def test_system_calls_a_container_refuses_are_done_without_and_without_a_word(loop_under_test, errno):
    """io_uring, pidfd_open and epoll_pwait2, refused as container runtimes and old kernels refuse them."""
    done = run_python(
        """
        import asyncio, ctypes, socket, struct, sys

        def refuse(calls, errno):
            instructions = [(0x20, 0, 0, 0)]                                  # load the number of the call
            for n, call in enumerate(calls):
                instructions.append((0x15, len(calls) - n, 0, call))          # is it this one? then to the last instruction
            instructions += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | errno)]
            code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
            buffer = ctypes.create_string_buffer(code)
            program = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(buffer))
            libc = ctypes.CDLL(None, use_errno=True)
            for arguments in ((38, 1, 0, 0, 0), (22, 2, program, 0, 0)):
                assert libc.prctl(*arguments) == 0, ctypes.get_errno()

        refuse([425, 426, 427, 434, 441], int(sys.argv[1]))

        async def main():
            loop = asyncio.get_running_loop()
            before = loop.time()
            await asyncio.sleep(0.0123)
            assert loop.time() - before >= 0.0123
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            loop.call_later(0.005, peer.send, b"x")
            assert await loop.sock_recv(ours, 10) == b"x"
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('child'); raise SystemExit(3)", stdout=-1)
            out, _ = await process.communicate()
            print(out, process.returncode)

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    """,
        loop_under_test,
        arguments=[str(errno)],
    )
    assert done.stdout.strip() == r"b'child\n' 3"
    assert done.stderr == ""


# threads


def test_call_soon_threadsafe_from_many_threads_loses_nothing(loop):
    got = []
    threads, each = 8, 3000

    def other(number):
        for n in range(each):
            loop.call_soon_threadsafe(got.append, (number, n))

    def check():
        if len(got) < threads * each:
            loop.call_later(0.001, check)
        else:
            loop.stop()

    workers = [threading.Thread(target=other, args=(number,)) for number in range(threads)]
    for worker in workers:
        loop.call_soon(worker.start)
    loop.call_soon(check)
    loop.run_forever()
    for worker in workers:
        worker.join()
    for number in range(threads):
        assert [n for who, n in got if who == number] == list(range(each))


def test_call_soon_threadsafe_wakes_a_sleeping_loop_at_once(loop, run):
    async def main():
        for _ in range(50):
            woken = loop.create_future()
            started = time.monotonic()
            threading.Timer(0.002, loop.call_soon_threadsafe, [woken.set_result, None]).start()
            await within(woken)
            assert time.monotonic() - started < 5

    run(main())


def test_call_soon_from_the_wrong_thread_never_corrupts_the_queue(loop):
    """A user's error: it may be refused, but what was accepted runs once, and nothing else is hurt."""
    ran = []
    accepted = []

    def wrong_thread(number):
        for n in range(2000):
            with contextlib.suppress(RuntimeError):
                loop.call_soon(ran.append, (number, n))
                accepted.append((number, n))

    threads = [threading.Thread(target=wrong_thread, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()

    def check():
        if any(thread.is_alive() for thread in threads):
            loop.call_later(0.001, check)
        else:
            loop.call_later(0.05, loop.stop)

    loop.call_soon(check)
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert sorted(ran) == sorted(accepted)


# delays


@pytest.mark.parametrize("delay", [float("inf"), 1e300, 1e18, 1e10, 2**40, 2**63, 2**64])
def test_a_delay_for_ever_is_just_very_long(loop, run, delay):
    fired = []
    handles = [loop.call_later(delay, fired.append, 1), loop.call_at(loop.time() + delay, fired.append, 2)]

    async def main():
        sleeping = asyncio.ensure_future(asyncio.sleep(delay))
        waiting = asyncio.ensure_future(asyncio.wait_for(loop.create_future(), delay))
        await asyncio.sleep(0.01)
        assert not sleeping.done() and not waiting.done()
        for task in (sleeping, waiting):
            task.cancel()
        await asyncio.wait([sleeping, waiting])
        async with asyncio.timeout(delay):
            await asyncio.sleep(0.001)

    run(main())
    assert fired == []
    assert handles[0].when() >= loop.time() + 1e9
    for handle in handles:
        handle.cancel()


@pytest.mark.parametrize("delay", [-1, -0.0, -1e300, float("-inf"), -(2**64)])
def test_a_negative_delay_is_due_at_once(loop, run, delay):
    fired = []
    loop.call_later(delay, fired.append, 1)
    loop.call_at(delay, fired.append, 2)
    run(asyncio.sleep(0.005))
    assert sorted(fired) == [1, 2]


def test_a_delay_that_is_no_number_is_a_value_error_or_harmless(new_event_loop):
    with contextlib.closing(new_event_loop()) as loop:
        with contextlib.suppress(ValueError):
            loop.call_later(float("nan"), int)
            loop.call_later(0.01, loop.stop)
            loop.run_forever()
        assert not loop.is_running()


# importing


@pytest.mark.ferrio_only("it is ferrio's import that is looked at")
@pytest.mark.parametrize(
    "use",
    [
        "pass",
        "ferrio.new_event_loop().close()",
        "ferrio.EventLoop",
        "asyncio.Runner(loop_factory=ferrio.new_event_loop).run(asyncio.sleep(0))",
    ],
)
def test_importing_and_using_ferrio_changes_nothing_in_asyncio(use):
    run_python(
        """
        import asyncio, gc, inspect, signal, sys, _asyncio, ssl, socket, subprocess, concurrent.futures, selectors, threading

        def state():
            modules = {name: module for name, module in sys.modules.items()
                       if name.partition(".")[0] in ("asyncio", "_asyncio", "ssl", "socket", "selectors", "subprocess", "signal", "threading")}
            found = {}
            for name, module in modules.items():
                for attribute, value in vars(module).items():
                    found[name, attribute] = id(value)
                    if inspect.isclass(value) and value.__module__ == name:
                        for member, inner in vars(value).items():
                            if not member.startswith("_abc"):
                                found[name, attribute, member] = id(inner)
            return found

        keep = [dict(vars(module)) for module in list(sys.modules.values())]
        asyncio.Runner().run(asyncio.sleep(0))  # So that what asyncio sets up by itself is there.
        policy = asyncio.get_event_loop_policy() if sys.version_info < (3, 14) else None
        before = state()
        import ferrio
        %s
        after = state()
        changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        allowed = {"_event_loop_policy", "_counter", "_task_name_counter"}
        assert [key for key in changed if not allowed & set(key)] == [], changed
        assert policy is None or asyncio.get_event_loop_policy() is policy
        with asyncio.Runner() as runner:
            assert type(runner.get_loop()).__module__.startswith("asyncio")
    """
        % use
    )
