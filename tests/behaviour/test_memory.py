"""What is freed and when, and what warns of having been left open."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import warnings
import weakref

import pytest

from .support import LOCALHOST, Recorder, collect, open_descriptors, transport_over, turns, until, within


class Thing:
    """Something to hold a weak reference to, that can be called."""

    def __call__(self, *args):
        pass


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
