"""What becomes of operations that are being awaited when their loop closes."""

import asyncio
import gc
import socket
import weakref

import ferrio

from .programs import run_program


class Application:
    """Refers to everything that it has started, as applications do."""

    def __init__(self, loop):
        self.loop = loop
        self.tasks = []

    def protocol(self):
        return asyncio.Protocol()

    async def await_operation(self, operation):
        await operation()

    def start(self, operation):
        self.tasks.append(self.loop.create_task(self.await_operation(operation)))


def test_what_was_awaited_when_the_loop_closed_is_collected_whatever_refers_to_it():
    def run():
        loop = ferrio.new_event_loop()
        application = Application(loop)
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        address = full.getsockname()
        application.sockets = [full, *(socket.socket() for _ in range(4))]
        for sock in application.sockets[1:]:
            sock.setblocking(False)
            sock.connect_ex(address)
        mine, peer = socket.socketpair()
        mine.setblocking(False)
        application.sockets += [mine, peer]
        application.start(lambda: loop.sock_recv(mine, 1))
        application.start(lambda: loop.create_connection(application.protocol, *address))
        application.start(lambda: asyncio.wait_for(loop.sock_recv_into(mine, bytearray(1)), 1000))
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        for task in application.tasks:
            assert not task.done()
            task._log_destroy_pending = False
        loop.close()
        for sock in application.sockets:
            sock.close()
        return weakref.ref(application)

    reference = run()
    gc.collect()
    assert reference() is None


def test_closing_the_loop_gives_back_the_socket_of_a_connection_being_made():
    async def main():
        await asyncio.get_running_loop().create_connection(asyncio.Protocol, *address)

    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = full.getsockname()
    fillers = [socket.socket() for _ in range(4)]
    for sock in fillers:
        sock.setblocking(False)
        sock.connect_ex(address)
    probe = socket.socket()
    number = probe.fileno()
    probe.close()
    loop = ferrio.new_event_loop()
    task = loop.create_task(main())
    task._log_destroy_pending = False
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert not task.done()
    loop.close()
    del task, loop
    gc.collect()
    probe = socket.socket()
    assert probe.fileno() == number
    for sock in (full, probe, *fillers):
        sock.close()


def test_an_operation_that_fails_at_once_is_dropped_in_peace():
    """It says that it was never awaited, by code of Python's, while its error is on its way."""
    run_program("""
        import asyncio, ferrio, gc, socket, threading, warnings

        warnings.simplefilter("always")

        async def main():
            loop = asyncio.get_running_loop()
            mine, peer = socket.socketpair()
            mine.setblocking(False)

            def use(name, *arguments):
                # The thread is not the loop's.
                try:
                    getattr(loop, name)(*arguments).send(None)
                except RuntimeError as error:
                    refused.append("Non-thread-safe" in str(error))

            refused = []
            for call in [
                ("sock_accept", mine),
                ("sock_connect", mine, ("127.0.0.1", 1)),
                ("sock_recv", mine, 10),
                ("getaddrinfo", "localhost", 80),
                ("connect_read_pipe", asyncio.Protocol, peer),
            ]:
                thread = threading.Thread(target=use, args=call)
                thread.start()
                thread.join()
                gc.collect()
            assert refused == [True] * 5, refused

        loop = ferrio.new_event_loop()
        loop.run_until_complete(main())
    """)
