"""The interpreter ends while loops still have something to do: quietly, with status 0."""

import sys

import pytest

from .programs import run_program

ROUNDS = 5


@pytest.mark.parametrize(
    "work",
    [
        "await asyncio.sleep(1000)",
        "while True: await asyncio.sleep(0)",
        "while True: await asyncio.sleep(0.0001)",
        "while True: pass",
        "while True: time.sleep(0.0001)",
        "await ping_pong()",
    ],
)
def test_daemon_threads_that_run_loops_end_with_the_process(work):
    program = f"""
    import asyncio, socket, threading, time
    import ferrio

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            for _ in range(10_000):
                pass
            self.transport.write(data)

    async def ping_pong():
        loop = asyncio.get_running_loop()
        ends = [(await loop.connect_accepted_socket(Echo, end))[0] for end in socket.socketpair()]
        ends[0].write(b"ping")
        await asyncio.sleep(1000)

    async def main():
        {work}

    for _ in range(3):
        threading.Thread(target=ferrio.run, args=(main(),), daemon=True).start()
    time.sleep(0.2)
    """
    for _ in range(ROUNDS):
        assert run_program(program) == ""


def test_a_loop_that_was_never_closed_ends_with_the_process():
    program = """
    import asyncio, signal, socket, time
    import ferrio

    loop = ferrio.new_event_loop()
    mine, peer = socket.socketpair()
    mine.setblocking(False)

    async def receive():
        await loop.sock_recv(mine, 1)

    task = loop.create_task(receive())
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    loop.run_in_executor(None, time.sleep, 0.2)
    connection = loop.run_until_complete(loop.connect_accepted_socket(asyncio.Protocol, peer))
    loop.call_soon(print)
    loop.add_signal_handler(signal.SIGUSR1, print)
    print("the end")
    """
    assert run_program(program) == "the end\n"


@pytest.mark.skipif(sys.platform != "linux", reason="greenlet is not installed for the tests elsewhere")
def test_a_greenlet_may_be_left_in_the_middle_of_a_callback():
    greenlet = pytest.importorskip("greenlet", reason="not among the tests' requirements on this Python")
    import asyncio

    import ferrio

    async def main():
        loop = asyncio.get_running_loop()
        passed = []

        def inner():
            for number in range(3):
                loop.call_soon(passed.append, number)
                greenlet.getcurrent().parent.switch()

        switched = greenlet.greenlet(inner)
        for _ in range(4):
            loop.call_soon(switched.switch)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert passed == [0, 1, 2]

    ferrio.run(main())
