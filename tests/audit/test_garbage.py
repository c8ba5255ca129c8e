"""Objects that are collected while something still waits: by whichever thread, and without leaving anything behind."""

import asyncio
import contextvars
import gc
import logging
import socket
import sys
import threading
import warnings
import weakref

import ferrio
import pytest

from .programs import run_program


@pytest.fixture(autouse=True)
def _quiet():
    """Unclosed loops are what these tests are about."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()
    logging.disable(logging.NOTSET)


class Keeper(asyncio.Protocol):
    """Forms a cycle with its transport."""

    def connection_made(self, transport):
        self.transport = transport


async def receive(loop, sock):
    await loop.sock_recv(sock, 10)


async def receive_with_timeout(loop, sock):
    await asyncio.wait_for(loop.sock_recv(sock, 10), 1000)


async def sleep(loop, sock):
    await asyncio.sleep(1000)


async def wait_for_a_future(loop, sock):
    await loop.create_future()


async def watch(loop, sock):
    loop.add_reader(sock, lambda: loop)
    await loop.create_future()


async def hold_a_transport(loop, sock):
    await loop.connect_accepted_socket(Keeper, sock)
    await loop.create_future()


async def hold_unsent_bytes(loop, sock):
    transport, _ = await loop.connect_accepted_socket(Keeper, sock)
    transport.write(bytes(10_000_000))
    await loop.create_future()


async def read_a_stream(loop, sock):
    reader, _ = await asyncio.open_connection(sock=sock)
    await reader.read()


async def serve(loop, sock):
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    await server.serve_forever()


async def send_datagrams(loop, sock):
    await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    await loop.create_future()


async def have_messages_from_a_thread(loop, sock):
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(print, loop))
    loop.stop()
    # After the loop has looked into its inbox for the last time.
    loop.call_soon(lambda: (thread.start(), thread.join()))
    await loop.create_future()


@pytest.mark.parametrize(
    "program",
    [
        receive,
        receive_with_timeout,
        sleep,
        wait_for_a_future,
        watch,
        hold_a_transport,
        hold_unsent_bytes,
        read_a_stream,
        serve,
        send_datagrams,
        have_messages_from_a_thread,
    ],
    ids=lambda program: program.__name__,
)
def test_a_loop_that_nobody_closed_is_collected_with_what_waits_in_it(program):
    def run():
        loop = ferrio.new_event_loop()
        mine, peer = socket.socketpair()
        mine.setblocking(False)
        task = loop.create_task(program(loop, mine))
        task._log_destroy_pending = False
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        peer.close()
        return weakref.ref(loop)

    reference = run()
    gc.collect()
    gc.collect()
    assert reference() is None


class Ticker:
    """Forms a cycle with the handle of its method, and one with the context that the handle runs in."""

    current = contextvars.ContextVar("current")

    def schedule(self, loop, how):
        self.current.set(self)
        self.handle = getattr(loop, how)(*[1000] * (how == "call_later"), self.tick, [self])

    def tick(self, arguments):
        pass


@pytest.mark.parametrize("how", ["call_soon", "call_soon_threadsafe", "call_later"])
@pytest.mark.parametrize("end", ["left waiting", "loop closed", "cancelled", "run"])
def test_a_handle_in_a_cycle_is_collected_however_it_ended(how, end):
    def make():
        loop, ticker = ferrio.new_event_loop(), Ticker()
        contextvars.copy_context().run(ticker.schedule, loop, how)
        if end == "loop closed":
            loop.close()
        elif end == "cancelled":
            ticker.handle.cancel()
        elif end == "run":
            loop.call_soon(loop.stop)
            loop.run_forever()
            if how == "call_later":
                ticker.handle._run()
        return weakref.ref(loop), weakref.ref(ticker)

    references = make()
    # One that waits is the loop's, as far as a first collection can tell.
    gc.collect()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


@pytest.mark.skipif("t" in sys.abiflags, reason="without the interpreter lock it looks at all that there are")
def test_the_collector_does_not_look_at_handles_that_wait():
    loop = ferrio.new_event_loop()
    timer, soon = loop.call_later(0, list, [1]), loop.call_soon(loop.stop)
    assert not gc.is_tracked(timer) and not gc.is_tracked(soon)
    loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0.001))
    assert gc.is_tracked(timer) and gc.is_tracked(soon)
    loop.close()


def test_handles_that_only_the_loop_has_keep_what_they_refer_to_alive():
    loop = ferrio.new_event_loop()
    called = []

    async def main():
        for i in range(10):
            loop.call_later(0.001, lambda i: called.append(i), i)
            loop.call_soon(lambda *values: called.append(sum(values)), i, i, i, i)
        gc.collect()
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())
    assert called == [4 * i for i in range(10)] + list(range(10))
    loop.close()


def test_a_transport_collected_by_another_thread_does_not_leave_its_descriptor_taken():
    async def main():
        loop = asyncio.get_running_loop()
        mine, peer = socket.socketpair()
        number = mine.fileno()
        transport, protocol = await loop.connect_accepted_socket(Keeper, mine)
        transport.pause_reading()
        peer.send(b"wake up, to stop watching")
        await asyncio.sleep(0.02)
        del transport, protocol
        collector = threading.Thread(target=gc.collect)
        collector.start()
        while collector.is_alive():
            await asyncio.sleep(0.001)
        assert mine.fileno() == -1
        # The number belongs to somebody else now.
        peer.close()
        others = socket.socketpair()
        assert number in {other.fileno() for other in others}
        loop.add_reader(number, print)
        loop.remove_reader(number)
        for other in others:
            other.close()

    gc.disable()
    try:
        ferrio.run(main())
    finally:
        gc.enable()


def test_a_server_forgets_a_connection_that_was_collected():
    class Deaf(Keeper):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main():
        server = await asyncio.get_running_loop().create_server(Deaf, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.send(b"wake up, to stop watching")
            await asyncio.sleep(0.05)
            assert server._active_count == 1
            gc.collect()
            assert server._connections() == []
            server.close()
            await asyncio.wait_for(server.wait_closed(), 5)
            assert server._active_count == 0

    ferrio.run(main())


def test_the_loop_cannot_be_reached_from_what_dies_with_its_dictionary():
    program = """
    import gc, signal, warnings
    import ferrio

    warnings.simplefilter("ignore")
    gc.disable()
    loop = ferrio.new_event_loop()
    loop.add_signal_handler(signal.SIGUSR1, print)
    handler = signal.getsignal(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR1)

    class Last:
        def __del__(self):
            print(repr(handler))

    loop.last = Last()
    del loop
    """
    assert run_program(program) == "<signal handler of a loop that is gone>\n"


def test_a_collection_may_start_while_a_transport_is_being_made():
    """CPython 3.11 makes a new object's `__dict__` when the collector sees the object already."""
    run_program(
        """
        import asyncio, gc, os, socket, sys
        import ferrio

        async def main():
            loop = asyncio.get_running_loop()
            for _ in range(30):
                ours, peer = socket.socketpair()
                stream, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
                datagram, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
                read_end, write_end = os.pipe()
                reading, _ = await loop.connect_read_pipe(asyncio.Protocol, open(read_end, "rb", 0))
                writing, _ = await loop.connect_write_pipe(asyncio.Protocol, open(write_end, "wb", 0))
                for transport in (stream, datagram, reading, writing):
                    transport.__dict__["mine"] = transport
                    transport.close()
                peer.close()
            child = await asyncio.create_subprocess_exec(sys.executable, "-c", "", stdin=-1, stdout=-1)
            await child.communicate()
            await asyncio.sleep(0.01)

        gc.set_threshold(1, 1, 1)
        ferrio.run(main())
        """
    )
