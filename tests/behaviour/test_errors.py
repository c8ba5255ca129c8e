"""Where exceptions go."""

import asyncio
import contextlib
import logging
import os
import socket
import time

import pytest

from .support import LOCALHOST, BufferedRecorder, Recorder, run_python, transport_over, turns, until, within


class Boom(Exception):
    """What the tests raise on purpose."""


# protocols


@pytest.mark.parametrize("method", ["data_received", "eof_received"])
def test_an_exception_in_a_protocol_is_logged_and_closes_the_transport(run, sockets, errors, method):
    ours, peer = sockets
    boom = Boom(method)

    class Protocol(Recorder):
        pass

    def fail(self, *args):
        raise boom

    setattr(Protocol, method, fail)

    async def main():
        transport, protocol = await transport_over(ours, Protocol)
        peer.send(b"x") if method == "data_received" else peer.shutdown(socket.SHUT_WR)
        assert await within(protocol.lost) is boom
        assert transport.is_closing()
        assert protocol.names == ["connection_made", "connection_lost"]
        context = errors.pop()
        assert context["exception"] is boom
        assert context["transport"] is transport
        assert context["protocol"] is protocol
        assert context["message"] == f"Fatal error: protocol.{method}() call failed."

    run(main())


@pytest.mark.parametrize("method", ["get_buffer", "buffer_updated"])
def test_an_exception_in_a_buffered_protocol_is_logged_and_closes_the_transport(run, sockets, errors, method):
    ours, peer = sockets
    boom = Boom(method)

    class Protocol(BufferedRecorder):
        pass

    def fail(self, *args):
        raise boom

    setattr(Protocol, method, fail)

    async def main():
        transport, protocol = await transport_over(ours, Protocol)
        peer.send(b"x")
        assert await within(protocol.lost) is boom
        context = errors.pop()
        assert context["exception"] is boom
        assert context["message"] == f"Fatal error: protocol.{method}() call failed."

    run(main())


def test_an_empty_buffer_from_a_protocol_is_an_error(run, sockets, errors):
    ours, peer = sockets

    async def main():
        _, protocol = await transport_over(ours, lambda: BufferedRecorder(size=0))
        peer.send(b"x")
        assert isinstance(await within(protocol.lost), RuntimeError)
        assert isinstance(errors.pop()["exception"], RuntimeError)

    run(main())


def test_an_exception_after_a_failure_in_data_received_drops_what_was_to_be_written(run, sockets, errors):
    ours, peer = sockets

    class Protocol(Recorder):
        def data_received(self, data):
            self.transport.write(bytes(8 << 20))
            raise Boom

    async def main():
        transport, protocol = await transport_over(ours, Protocol)
        peer.send(b"x")
        assert isinstance(await within(protocol.lost), Boom)
        assert transport.get_write_buffer_size() == 0
        errors.clear()

    run(main())


@pytest.mark.parametrize("method", ["connection_made", "connection_lost", "pause_writing", "resume_writing"])
def test_an_exception_in_the_other_protocol_callbacks_is_reported_and_the_loop_goes_on(run, sockets, errors, method):
    ours, peer = sockets
    boom = Boom(method)

    class Protocol(Recorder):
        pass

    original = getattr(Recorder, method)

    def fail(self, *args):
        original(self, *args)
        raise boom

    setattr(Protocol, method, fail)

    async def main():
        transport, protocol = await transport_over(ours, Protocol)
        transport.write(bytes(4 << 20))
        peer.setblocking(False)

        def drained():
            try:
                while peer.recv(1 << 20):
                    pass
            except BlockingIOError:
                pass
            return transport.get_write_buffer_size() == 0

        await until(drained)
        transport.close()
        await within(protocol.lost)
        await turns(3)
        assert errors.pop()["exception"] is boom

    run(main())


def test_an_exception_in_datagram_received_is_reported_and_the_endpoint_lives_on(run, loop, errors):
    got = []

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr):
            got.append(data)
            if data == b"bad":
                raise Boom

    async def main():
        transport, _ = await loop.create_datagram_endpoint(Protocol, (LOCALHOST, 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for data in (b"bad", b"good"):
                peer.sendto(data, transport.get_extra_info("sockname"))
                await until(lambda: data in got)
        assert not transport.is_closing()
        transport.close()
        await turns(3)

    run(main())
    assert isinstance(errors.pop()["exception"], Boom)


# callbacks


@pytest.mark.parametrize(
    "how", ["call_soon", "call_soon_threadsafe", "call_later", "call_at", "add_reader", "add_writer"]
)
def test_an_exception_in_a_callback_reaches_the_handler_with_the_handle(run, loop, sockets, errors, how):
    ours, peer = sockets
    peer.send(b"x")
    boom = Boom(how)

    def fail():
        loop.call_soon(loop.remove_reader, ours)  # Not here: a handle removed while it runs has nothing left to show.
        loop.call_soon(loop.remove_writer, ours)
        raise boom

    schedule = {
        "call_later": lambda: loop.call_later(0.001, fail),
        "call_at": lambda: loop.call_at(loop.time() + 0.001, fail),
        "add_reader": lambda: loop.add_reader(ours, fail),
        "add_writer": lambda: loop.add_writer(ours, fail),
    }.get(how, lambda: getattr(loop, how)(fail))
    handle = schedule()
    run(until(lambda: errors))
    context = errors.pop()
    assert context["exception"] is boom
    assert context["message"].startswith("Exception in callback ")
    assert "fail" in context["message"]
    if handle is not None:
        assert context["handle"] is handle
    assert boom.__traceback__ is not None
    run(turns(3))  # The loop goes on, and the callback is not called again.


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["ready", "timer", "io", "task", "data_received"])
def test_keyboard_interrupt_and_system_exit_leave_run_forever_at_once(run, loop, sockets, exception, where):
    ours, peer = sockets
    after = []

    def leave(*args):
        for n in range(3):
            loop.call_soon(after.append, n)
        raise exception("out")

    async def leave_as_task():
        leave()

    if where == "ready":
        loop.call_soon(leave)
    elif where == "timer":
        loop.call_later(0.001, leave)
    elif where == "io":
        peer.send(b"x")
        loop.add_reader(ours, lambda: (loop.remove_reader(ours), leave()))
    elif where == "task":
        task = loop.create_task(leave_as_task())
    else:

        class Protocol(Recorder):
            def data_received(self, data):
                self.transport.pause_reading()
                leave()

        transport, protocol = run(transport_over(ours, Protocol))
        peer.send(b"x")
    with pytest.raises(exception, match="out"):
        loop.run_forever()
    assert after == []
    assert not loop.is_running()
    assert not loop.is_closed()
    run(turns(2))  # It can run again, and what was queued is still there.
    assert after == [0, 1, 2]
    if where == "task":
        assert isinstance(task.exception(), exception)
    elif where == "data_received":
        transport.abort()
        run(within(protocol.lost))


def test_handles_picked_for_the_same_turn_stay_queued_when_the_loop_is_left(loop):
    order = []

    def leave():
        raise KeyboardInterrupt

    loop.call_soon(order.append, 1)
    loop.call_soon(leave)
    loop.call_soon(order.append, 2)
    loop.call_soon(order.append, 3)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert order == [1]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert order == [1, 2, 3]


def test_run_until_complete_passes_on_what_the_task_raised(run):
    async def main(exception):
        raise exception

    for exception in (Boom("x"), asyncio.CancelledError("x"), KeyboardInterrupt("x"), SystemExit(3), TimeoutError("x")):
        with pytest.raises(type(exception)) as caught:
            run(main(exception))
        assert caught.value.args == exception.args


# the exception handler


def test_the_default_handler_logs_to_the_asyncio_logger_with_the_handle(run, loop, caplog):
    loop.set_exception_handler(None)

    def a_callback_with_a_name(arg):
        raise Boom("what went wrong")

    loop.call_soon(a_callback_with_a_name, "argument")
    run(turns(2))
    [record] = [r for r in caplog.records if r.name == "asyncio"]
    assert record.levelno == logging.ERROR
    text = record.getMessage()
    assert text.startswith("Exception in callback ")
    assert "a_callback_with_a_name(" in text
    assert "\nhandle: <Handle " in text
    assert record.exc_info[0] is Boom
    assert record.exc_info[2] is not None


def test_the_default_handler_logs_transport_and_protocol(run, loop, sockets, caplog):
    ours, peer = sockets
    loop.set_exception_handler(None)

    class Protocol(Recorder):
        def data_received(self, data):
            raise Boom

    async def main():
        _, protocol = await transport_over(ours, Protocol)
        peer.send(b"x")
        await within(protocol.lost)

    run(main())
    [text] = [r.getMessage() for r in caplog.records if r.name == "asyncio"]
    assert "Fatal error: protocol.data_received() call failed." in text
    assert "\nprotocol: <" in text
    assert "\ntransport: <" in text


def test_the_default_handler_logs_the_task_whose_exception_nobody_fetched(run, loop, caplog):
    loop.set_exception_handler(None)

    async def fails():
        raise Boom("never fetched")

    async def main():
        task = asyncio.ensure_future(fails())
        task.set_name("the task's name")
        await turns(2)

    run(main())
    [text] = [r.getMessage() for r in caplog.records if r.name == "asyncio"]
    assert text.startswith("Task exception was never retrieved")
    assert "the task's name" in text


def test_the_default_handler_logs_every_field_in_order(loop, caplog):
    loop.default_exception_handler({"message": "the message", "zebra": 1, "ant": "x", "exception": Boom("b")})
    loop.default_exception_handler({"other": 1})
    loop.default_exception_handler({"message": "", "source_traceback": [], "exception": None})
    first, second, third = [r for r in caplog.records if r.name == "asyncio"]
    assert first.getMessage() == "the message\nant: 'x'\nzebra: 1"
    assert first.exc_info[1].args == ("b",)
    assert second.getMessage() == "Unhandled exception in event loop\nother: 1"
    assert not second.exc_info
    assert third.getMessage().startswith("Unhandled exception in event loop")


def test_a_handler_of_ones_own_gets_loop_and_context(run, loop):
    seen = []

    def handler(*args):
        seen.append(args)

    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    context = {"message": "hello"}
    loop.call_exception_handler(context)
    assert seen == [(loop, context)]
    assert seen[0][1] is context
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


def test_a_handler_that_fails_is_logged_and_the_loop_goes_on(run, loop, caplog):
    def handler(loop, context):
        raise Boom("the handler itself")

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    run(turns(3))
    loop.set_exception_handler(None)
    [record] = [r for r in caplog.records if r.name == "asyncio"]
    assert record.getMessage().startswith("Unhandled error in exception handler")
    assert record.exc_info[0] is Boom


def test_a_subclass_may_override_the_default_handler(new_event_loop):
    seen = []
    with contextlib.closing(new_event_loop()) as loop:
        base = type(loop)

    class Loop(base):
        def default_exception_handler(self, context):
            seen.append(context["message"])

    with contextlib.closing(Loop()) as loop:
        loop.call_soon(lambda: 1 / 0)
        loop.call_soon(loop.stop)
        loop.run_forever()
    [message] = seen
    assert message.startswith("Exception in callback")


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_a_handler_may_end_the_program(run, loop, exception):
    def handler(loop, context):
        raise exception

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    with pytest.raises(exception):
        loop.run_forever()
    loop.set_exception_handler(None)


# debug mode


def test_debug_mode_names_slow_callbacks(run, loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.02

    def a_slow_callback():
        time.sleep(0.05)

    async def main():
        loop.call_soon(a_slow_callback)
        await turns(3)

    run(main())
    [text] = [r.getMessage() for r in caplog.records if r.name == "asyncio" and r.levelno == logging.WARNING]
    assert "a_slow_callback" in text
    assert "took 0.0" in text
    assert text.startswith("Executing <Handle ")


def test_debug_mode_tells_where_a_failing_callback_was_scheduled(run, loop, errors):
    loop.set_debug(True)

    def schedules_it():
        loop.call_soon(lambda: 1 / 0)

    schedules_it()
    run(turns(2))
    context = errors.pop()
    frames = [frame.name for frame in context["source_traceback"]]
    assert frames[-1] == "schedules_it"
    assert os.path.basename(context["source_traceback"][-1].filename) == os.path.basename(__file__)


def test_debug_mode_refuses_call_soon_from_another_thread(run, loop):
    loop.set_debug(True)
    caught = []

    def other_thread():
        for method, *args in (("call_soon", print), ("call_later", 1, print), ("call_at", 1, print)):
            try:
                getattr(loop, method)(*args)
            except RuntimeError as error:
                caught.append((method, "thread" in str(error)))

    async def main():
        await loop.run_in_executor(None, other_thread)

    run(main())
    assert caught == [("call_soon", True), ("call_later", True), ("call_at", True)]


def test_debug_mode_is_asked_for_by_the_environment(loop_under_test):
    source = "loop = new_event_loop(); print(loop.get_debug()); loop.close()"
    for options, environment, expected in (
        ((), {}, "False"),
        ((), {"PYTHONASYNCIODEBUG": "1"}, "True"),
        (("-X", "dev"), {}, "True"),
        (("-E",), {"PYTHONASYNCIODEBUG": "1"}, "False"),
    ):
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE")}
        done = run_python(source, loop_under_test, options=options, env={**clean, **environment})
        assert done.stdout.strip() == expected, (options, environment)


# Rust


@pytest.mark.ferrio_only("a panic is Rust's; the hook that provokes one is not for users")
@pytest.mark.parametrize("how", ["call_soon", "call_later", "call_soon_threadsafe", "add_reader"])
def test_a_rust_panic_becomes_an_exception_for_the_handler_and_the_loop_goes_on(run, loop, sockets, errors, how):
    from ferrio import _ferrio

    ours, peer = sockets
    peer.send(b"x")
    if how == "add_reader":
        loop.add_reader(ours, _ferrio._panic_for_tests)
        loop.call_later(0.005, loop.remove_reader, ours)
    else:
        getattr(loop, how)(*([0.001] if how == "call_later" else []), _ferrio._panic_for_tests)
    run(asyncio.sleep(0.02))
    assert errors
    for context in errors:
        assert isinstance(context["exception"], BaseException)
        assert "panic" in repr(type(context["exception"])).lower() + str(context["exception"]).lower()
    errors.clear()
    after = []
    loop.call_soon(after.append, 1)
    run(turns(2))
    assert after == [1]


@pytest.mark.ferrio_only("a panic is Rust's; the hook that provokes one is not for users")
def test_a_rust_panic_never_ends_the_process(loop_under_test):
    done = run_python(
        """
        import asyncio
        from ferrio import _ferrio

        async def main():
            loop = asyncio.get_running_loop()
            loop.call_soon(_ferrio._panic_for_tests)
            await asyncio.sleep(0.01)
            print("alive")

        asyncio.Runner(loop_factory=new_event_loop).run(main())
    """,
        loop_under_test,
    )
    assert done.stdout == "alive\n"
    assert "panic" in done.stderr
