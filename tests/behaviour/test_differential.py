"""Random programs and random traffic: what happens, and in which order, is the same on the stock loop and on the loop under test.

Hypothesis writes the programs. A difference is reported as the smallest program that shows it.
"""

import asyncio
import contextlib
import contextvars
import socket
import time

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .support import LOCALHOST, BufferedRecorder, Recorder, in_thread, read_all, transport_over

bounded = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=200,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
bounded_io = settings(bounded, max_examples=25)

# Only a failing test, which looks for its smallest program, comes near this.
pytestmark = pytest.mark.timeout(120)

variable = contextvars.ContextVar("variable", default=0)


# A program is a list of instructions for one callback; `call_soon` and its like carry the program of the callback they schedule.

names = st.integers(0, 5)
ticks = st.integers(0, 4)


def instructions(children):
    return st.one_of(
        st.tuples(st.just("call_soon"), children),
        st.tuples(st.just("call_soon_threadsafe"), children),
        st.tuples(st.just("call_later"), ticks, children),
        st.tuples(st.just("keep_soon"), names, children),
        st.tuples(st.just("keep_later"), names, ticks, children),
        st.tuples(st.just("cancel_handle"), names),
        st.tuples(st.just("create_task"), names, children),
        st.tuples(st.just("cancel_task"), names),
        st.tuples(st.just("set_result"), names),
        st.tuples(st.just("cancel_future"), names),
        st.tuples(st.just("add_done_callback"), names, children),
        st.tuples(st.just("wake_reader")),
        st.tuples(st.just("set_variable"), st.integers(1, 9)),
        st.tuples(st.just("fail")),
        # Only tasks can do these; a plain callback passes over them.
        st.tuples(st.just("sleep0")),
        st.tuples(st.just("sleep"), ticks),
        st.tuples(st.just("await_future"), names),
        st.tuples(st.just("await_task"), names),
        st.tuples(st.just("wait_for"), names, ticks),
        st.tuples(st.just("gather"), children, children),
        st.tuples(st.just("shield"), names),
    )


programs = st.recursive(st.just([]), lambda children: st.lists(instructions(children), max_size=5), max_leaves=25)


class Clock:
    """Gives every deadline of a program a slot of its own, long against the work of a turn.

    So two timers are never due at once, whose order would be the machine's affair and not the loop's, and deadlines do not
    drift with the time that callbacks take.
    """

    def __init__(self, loop, seconds):
        self.loop = loop
        self.seconds = seconds
        self.start = loop.time()
        self.now = 0
        self.used = {0}

    def slot(self, ticks):
        """A slot for a deadline so many ticks from now, or the first free one after that."""
        slot = self.now + 1 + ticks
        while slot in self.used:
            slot += 1
        self.used.add(slot)
        return slot

    def when(self, slot):
        return self.start + slot * self.seconds

    def delay(self, slot):
        return self.when(slot) - self.loop.time()

    def reached(self, slot):
        self.now = max(self.now, slot)

    async def run_out(self):
        """Until all deadlines are over, and what they set off."""
        slot = None
        while slot != max(self.used):
            slot = max(self.used) + 2
            self.used.add(slot)
            await asyncio.sleep(self.delay(slot))
        self.reached(slot)


class Interpreter:
    """Runs a program on a loop and writes down what happened, in order."""

    def __init__(self, loop, seconds):
        self.loop = loop
        self.log = []
        self.handles = {}
        self.tasks = {}
        self.futures = {name: loop.create_future() for name in range(6)}
        self.count = 0
        self.clock = Clock(loop, seconds)
        self.ours, self.peer = socket.socketpair()
        self.ours.setblocking(False)
        loop.add_reader(self.ours, self.readable)
        loop.set_exception_handler(self.handler)

    def handler(self, loop, context):
        if "handle" in context:  # When a task that failed is freed, and says so, is no matter of order.
            self.log.append(("handler", type(context["exception"]).__name__))

    def close(self):
        self.loop.remove_reader(self.ours)
        self.ours.close()
        self.peer.close()

    def readable(self):
        self.log.append(("readable", len(self.ours.recv(100))))

    def number(self):
        self.count += 1
        return self.count

    def callback(self, number, program):
        self.log.append(("callback", number, variable.get()))
        for instruction in program:
            self.act(*instruction)

    def timer(self, slot, number, program):
        self.clock.reached(slot)
        self.callback(number, program)

    def call_at(self, ticks, number, program):
        slot = self.clock.slot(ticks)
        return self.loop.call_at(self.clock.when(slot), self.timer, slot, number, program)

    def act(self, what, *arguments):
        number = self.number()
        loop = self.loop
        if what in ("call_soon", "call_soon_threadsafe"):
            getattr(loop, what)(self.callback, number, arguments[0])
        elif what == "call_later":
            self.call_at(arguments[0], number, arguments[1])
        elif what == "keep_soon":
            self.handles[arguments[0]] = loop.call_soon(self.callback, number, arguments[1])
        elif what == "keep_later":
            self.handles[arguments[0]] = self.call_at(arguments[1], number, arguments[2])
        elif what == "cancel_handle":
            if arguments[0] in self.handles:
                self.handles[arguments[0]].cancel()
        elif what == "create_task":
            self.tasks[arguments[0]] = loop.create_task(self.task(number, arguments[1]))
        elif what == "cancel_task":
            if arguments[0] in self.tasks:
                self.log.append(("cancel", arguments[0], self.tasks[arguments[0]].cancel()))
        elif what == "set_result":
            if not self.futures[arguments[0]].done():
                self.futures[arguments[0]].set_result(number)
        elif what == "cancel_future":
            self.log.append(("cancel future", self.futures[arguments[0]].cancel()))
        elif what == "add_done_callback":
            self.futures[arguments[0]].add_done_callback(lambda future: self.callback(number, arguments[1]))
        elif what == "wake_reader":
            self.peer.send(b"x")
        elif what == "set_variable":
            variable.set(arguments[0])
        elif what == "fail":
            raise ArithmeticError(number)

    async def task(self, number, program):
        self.log.append(("task", number, variable.get()))
        try:
            for what, *arguments in program:
                if what == "sleep0":
                    await asyncio.sleep(0)
                elif what == "sleep":
                    slot = self.clock.slot(arguments[0])
                    await asyncio.sleep(self.clock.delay(slot))
                    self.clock.reached(slot)
                elif what == "await_future":
                    self.log.append(("got", number, await self.futures[arguments[0]]))
                elif what == "await_task":
                    if arguments[0] in self.tasks and self.tasks[arguments[0]] is not asyncio.current_task():
                        await self.tasks[arguments[0]]
                elif what == "wait_for":
                    slot = self.clock.slot(arguments[1])
                    try:
                        await asyncio.wait_for(asyncio.shield(self.futures[arguments[0]]), self.clock.delay(slot))
                    except TimeoutError:
                        self.clock.reached(slot)
                elif what == "gather":
                    await asyncio.gather(
                        *(self.task(self.number(), each) for each in arguments), return_exceptions=True
                    )
                elif what == "shield":
                    await asyncio.shield(self.futures[arguments[0]])
                else:
                    self.act(what, *arguments)
                self.log.append(("step", number, what, variable.get()))
        except BaseException as error:
            self.log.append(("task left by", number, type(error).__name__))
            raise
        self.log.append(("task over", number))

    async def settle(self):
        """Until every deadline is over; then end what still waits, and once more."""
        await self.clock.run_out()
        self.log.append("settled")
        waiting = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in sorted(waiting, key=lambda task: int(task.get_name().rpartition("-")[2])):
            task.cancel()
        if waiting:
            await asyncio.wait(waiting, timeout=1)
        await self.clock.run_out()


def history(factory, program, seconds):
    """What running the program on a fresh loop logged."""
    loop = factory()
    with contextlib.closing(loop):
        interpreter = Interpreter(loop, seconds)

        async def main():
            loop.call_soon(interpreter.callback, 0, program)
            interpreter.act("create_task", 0, program)
            await interpreter.settle()

        contextvars.copy_context().run(loop.run_until_complete, main())
        interpreter.close()
        for task in interpreter.tasks.values():
            if task.done() and not task.cancelled():
                task.exception()
        loop.set_exception_handler(lambda loop, context: None)
        return interpreter.log


@bounded
@given(program=programs)
def test_random_programs_run_in_the_same_order(loop_under_test, program):
    for seconds in (0.002, 0.01, 0.05, 0.2):
        # A machine that stands still for longer than a slot mixes up timers on any loop. A difference between the loops stays
        # when there is more time.
        expected, got = (
            history(factory, program, seconds) for factory in (asyncio.SelectorEventLoop, loop_under_test.factory)
        )
        if got == expected:
            break
    assert got == expected


# Traffic


sizes = st.lists(st.sampled_from([0, 1, 100, 4096, 65_536, 200_000, 1_000_000]), max_size=8)
traffic = st.lists(
    st.one_of(
        st.tuples(st.just("write"), sizes),
        st.tuples(st.just("writelines"), sizes.filter(all)),
        st.tuples(st.just("receive"), sizes),
        st.tuples(st.just("pause")),
        st.tuples(st.just("resume")),
        st.tuples(st.just("limits"), st.sampled_from([0, 1000, 65_536, 1_000_000])),
        st.tuples(st.just("drain")),
        st.tuples(st.just("turn")),
    ),
    max_size=12,
)
endings = st.sampled_from(["close", "abort", "peer closes", "peer shuts", "write_eof"])


def pattern(size, seed):
    return bytes((seed * 31 + n) % 251 for n in range(min(size, 251))) * (size // 251 + 1)


async def converse(loop, buffered, script, ending):
    """Play a script over a socket pair. Returns what both sides got and what the protocol was told, in order."""
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.settimeout(10)
    received = bytearray()
    transport, protocol = await transport_over(ours, BufferedRecorder if buffered else Recorder)
    if not buffered:
        protocol.flow = []
        protocol.pause_writing = lambda: protocol.flow.append("pause_writing")
        protocol.resume_writing = lambda: protocol.flow.append("resume_writing")
    sent = expected = 0

    async def peer_reads_all():
        nonlocal received
        while len(received) < sent:
            received += await in_thread(peer.recv, 1 << 20)

    for step, (what, *arguments) in enumerate(script):
        if what in ("write", "writelines"):
            chunks = [pattern(size, step + n)[:size] for n, size in enumerate(arguments[0])]
            sent += sum(map(len, chunks))
            if what == "write":
                for chunk in chunks:
                    transport.write(chunk)
            else:
                transport.writelines(chunks)
        elif what == "receive":
            for n, size in enumerate(arguments[0]):
                expected += size
                # More than the kernel holds is taken by the loop meanwhile, unless reading is paused.
                transport.resume_reading()
                await in_thread(peer.sendall, pattern(size, step + n)[:size])
        elif what == "pause":
            transport.pause_reading()
        elif what == "resume":
            transport.resume_reading()
        elif what == "limits":
            transport.set_write_buffer_limits(high=arguments[0])
        elif what == "drain":
            await peer_reads_all()
        else:
            await asyncio.sleep(0)
    await peer_reads_all()
    transport.resume_reading()
    deadline = time.monotonic() + 10
    while len(protocol.data) < expected:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
    if ending == "peer closes":
        peer.close()
    elif ending == "peer shuts":
        peer.shutdown(socket.SHUT_WR)
    elif ending == "write_eof":
        transport.write_eof()
        received += await in_thread(read_all, peer)
        peer.close()
    else:
        getattr(transport, ending)()
    lost = await asyncio.wait_for(protocol.lost, 10)
    peer.close()
    order = []
    for name, *_ in protocol.events:
        # How many pieces the bytes come in is the kernel's and the machine's affair.
        if not (order and order[-1] == name and name in ("data_received", "buffer_updated")):
            order.append(name)
    flow = getattr(protocol, "flow", [])
    paired = flow == ["pause_writing", "resume_writing"] * (len(flow) // 2) + ["pause_writing"] * (len(flow) % 2)
    return bytes(protocol.data), bytes(received), order, type(lost).__name__, paired


@bounded_io
@given(buffered=st.booleans(), script=traffic, ending=endings)
def test_random_traffic_carries_the_same_bytes_and_tells_the_same_story(loop_under_test, buffered, script, ending):
    results = []
    for factory in (asyncio.SelectorEventLoop, loop_under_test.factory):
        with asyncio.Runner(loop_factory=factory) as runner:
            results.append(runner.run(converse(runner.get_loop(), buffered, script, ending)))
    expected, got = results
    assert got == expected


# Datagrams


@bounded_io
@given(sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=30))
def test_random_datagrams_arrive_whole_and_in_order(loop_under_test, sizes):
    async def exchange():
        loop = asyncio.get_running_loop()
        got = []

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                got.append(data)

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind((LOCALHOST, 0))
            peer.settimeout(5)
            transport, _ = await loop.create_datagram_endpoint(Protocol, (LOCALHOST, 0), peer.getsockname())
            peer.connect(transport.get_extra_info("sockname"))
            for sock in (peer, transport.get_extra_info("socket")):
                # Room for all of them: a kernel counts a datagram for more than its size, and drops what is too much.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            for n, size in enumerate(sizes):
                transport.sendto(pattern(size, n)[:size])
            returned = [await in_thread(peer.recv, 65_536) for _ in sizes]
            for datagram in returned:
                await in_thread(peer.send, datagram)
            deadline = time.monotonic() + 5
            while len(got) < len(sizes):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.001)
            transport.close()
            await asyncio.sleep(0)
        return returned, got

    with asyncio.Runner(loop_factory=loop_under_test.factory) as runner:
        returned, got = runner.run(exchange())
    assert returned == got == [pattern(size, n)[:size] for n, size in enumerate(sizes)]
