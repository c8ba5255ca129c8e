"""Whatever a protocol's method does or raises, the connection and the loop stay in order."""

import asyncio
import socket
import threading

import ferrio
import pytest
from ferrio import _ferrio

CALLBACKS = ["connection_made", "data_received", "get_buffer", "buffer_updated", "eof_received", "connection_lost"]


def protocol_class(callback, act):
    """A protocol that calls act(self) in that callback, once."""
    base = asyncio.BufferedProtocol if callback in ("get_buffer", "buffer_updated") else asyncio.Protocol

    class Probe(base):
        def __init__(self):
            self.transport = None
            self.calls = []
            self.received = b""
            self.room = bytearray(100)
            self.acted = False
            self.lost = asyncio.get_running_loop().create_future()

        def _called(self, name):
            self.calls.append(name)
            if name == callback and not self.acted:
                self.acted = True
                act(self)

        def connection_made(self, transport):
            self.transport = transport
            self._called("connection_made")

        def data_received(self, data):
            self.received += data
            self._called("data_received")

        def get_buffer(self, sizehint):
            self._called("get_buffer")
            return self.room

        def buffer_updated(self, count):
            self.received += self.room[:count]
            self._called("buffer_updated")

        def eof_received(self):
            self._called("eof_received")

        def connection_lost(self, error):
            if not self.lost.done():
                self.lost.set_result(error)
            self._called("connection_lost")

    return Probe


async def converse(probe_class):
    """Connect, receive, come to an end; returns the protocol."""
    loop = asyncio.get_running_loop()
    mine, peer = socket.socketpair()
    with peer:
        transport, protocol = await asyncio.wait_for(loop.connect_accepted_socket(probe_class, mine), 5)
        for _ in range(2):
            try:
                peer.send(b"data")
            except OSError:
                break
            await asyncio.sleep(0.01)
        peer.close()
        await asyncio.wait_for(protocol.lost, 5)
        assert protocol.calls.count("connection_made") == 1
        assert protocol.calls.count("connection_lost") == 1
        assert protocol.calls[-1] == "connection_lost"
        assert protocol.acted
        await asyncio.sleep(0)
        assert mine.fileno() == -1
    return protocol


ACTIONS = {
    "close": lambda p: p.transport.close(),
    "abort": lambda p: p.transport.abort(),
    "close and abort": lambda p: (p.transport.close(), p.transport.abort()),
    "write": lambda p: p.transport.write(b"x"),
    "write much": lambda p: p.transport.write(bytes(1_000_000)),
    "pause and resume": lambda p: (p.transport.pause_reading(), p.transport.resume_reading()),
    "write_eof": lambda p: p.transport.write_eof(),
    "limits": lambda p: (p.transport.set_write_buffer_limits(0), p.transport.write(b"x")),
    "extra info": lambda p: [p.transport.get_extra_info(name) for name in ("socket", "peername", "sockname", "no")],
    "set the same protocol": lambda p: p.transport.set_protocol(p),
    "stop and go on": lambda p: asyncio.get_running_loop().call_soon(lambda: None).cancel(),
    "repr": lambda p: repr(p.transport),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("callback", CALLBACKS)
def test_transport_methods_from_within_a_protocols_method(callback, action):
    ferrio.run(converse(protocol_class(callback, ACTIONS[action])))


def _refused(what):
    with pytest.raises(RuntimeError):
        what()


def _run_nested(_):
    loop = asyncio.get_running_loop()
    _refused(loop.run_forever)
    _refused(loop.close)
    _refused(loop._close)
    coroutine = asyncio.sleep(0)
    _refused(lambda: loop.run_until_complete(coroutine))
    coroutine.close()
    other = ferrio.new_event_loop()
    _refused(other.run_forever)
    other.close()


@pytest.mark.parametrize("callback", CALLBACKS)
def test_the_loop_can_neither_be_run_nor_closed_from_within_a_protocols_method(callback):
    protocol = ferrio.run(converse(protocol_class(callback, _run_nested)))
    assert protocol.lost.result() is None


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, GeneratorExit, OSError, StopIteration])
@pytest.mark.parametrize("callback", CALLBACKS)
def test_what_a_protocols_method_raises_ends_the_connection_at_most(callback, error):
    def act(_):
        raise error("from the protocol")

    async def main():
        reported = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        protocol = await converse(protocol_class(callback, act))
        return protocol, reported

    protocol, reported = ferrio.run(main())
    survives = callback in ("connection_made", "connection_lost")
    if survives:
        assert protocol.lost.result() is None
    else:
        assert type(protocol.lost.result()) is error
    if error is not OSError or survives:
        assert [type(context["exception"]) for context in reported] == [error]


@pytest.mark.parametrize("callback", CALLBACKS)
def test_a_panic_in_a_protocols_method_is_an_error_like_any_other(callback, capfd):
    async def main():
        reported = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        await converse(protocol_class(callback, lambda _: _ferrio._panic_for_tests()))
        return reported

    reported = ferrio.run(main())
    assert len(reported) == 1
    assert "a panic for the tests" in str(reported[0]["exception"])


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("callback", CALLBACKS)
def test_an_interrupt_in_a_protocols_method_ends_the_run_and_nothing_else(callback, error):
    def act(_):
        raise error

    loop = ferrio.new_event_loop()

    async def main():
        return await converse(protocol_class(callback, act))

    task = loop.create_task(main())
    with pytest.raises(error):
        loop.run_until_complete(task)
    # The loop goes on where it was; so does the connection.
    protocol = loop.run_until_complete(task)
    assert protocol.lost.result() is None
    loop.close()


def test_awaitables_and_a_running_loop_refuse_other_threads():
    async def main():
        loop = asyncio.get_running_loop()
        other, end = socket.socketpair()
        other.setblocking(False)
        receiving = loop.sock_recv(other, 10)
        receiving.send(None)
        calls = [
            lambda: receiving.send(None),
            lambda: receiving.throw(ValueError),
            receiving.close,
            loop.run_forever,
            loop.close,
        ]
        outcomes = []

        def use():
            for call in calls:
                try:
                    outcomes.append(call())
                except BaseException as error:
                    outcomes.append(type(error))

        thread = threading.Thread(target=use)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.001)
        assert outcomes == [RuntimeError] * len(calls)
        receiving.close()
        for sock in (other, end):
            sock.close()
        await asyncio.sleep(0)

    ferrio.run(main())


def test_only_one_of_several_threads_gets_to_run_a_loop():
    for _ in range(50):
        loop = ferrio.new_event_loop()
        inside = threading.Lock()
        problems = []

        def callback():
            if not inside.acquire(blocking=False):
                problems.append("two threads at once")
                return
            inside.release()

        def run():
            for _ in range(20):
                loop.call_soon_threadsafe(callback)
            loop.call_soon_threadsafe(loop.stop)
            try:
                loop.run_forever()
            except RuntimeError as error:
                assert "already running" in str(error)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert not loop.is_running()
        loop.close()


def test_a_transport_of_a_closed_loop_says_so():
    loop = ferrio.new_event_loop()
    mine, peer = socket.socketpair()

    async def connect():
        return await loop.connect_accepted_socket(asyncio.Protocol, mine)

    transport, _ = loop.run_until_complete(connect())
    loop.close()
    transport.pause_reading()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.resume_reading()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.close()
    assert transport.is_closing()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
    assert mine.fileno() == -1
    peer.close()
