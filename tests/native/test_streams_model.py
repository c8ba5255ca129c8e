"""Random programs of feeding, reading and cancelling: ferrio's StreamReader does what asyncio's own does, step by step."""

import asyncio
import socket
import sys

import ferrio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

LOOPS = {"stock": asyncio.SelectorEventLoop, "ferrio": ferrio.new_event_loop}
MANY_SEPARATORS = sys.version_info >= (3, 13)


class Oracle(asyncio.StreamReader):
    """asyncio's own reader, with one difference: an exception that comes between the last bytes and the step of the coroutine that they
    have woken is raised. There asyncio's coroutine waits again, for ever."""

    async def _wait_for_data(self, func_name):
        if self._waiter is None and not self._eof and self._exception is not None:
            raise self._exception
        await super()._wait_for_data(func_name)


class Transport(asyncio.Transport):
    """Notes what is asked of it."""

    def __init__(self, can_pause):
        super().__init__()
        self.calls = []
        self._can_pause = can_pause

    def pause_reading(self):
        self.calls.append("pause")
        if not self._can_pause:
            raise NotImplementedError

    def resume_reading(self):
        self.calls.append("resume")


data = st.text(alphabet="ab\nc", max_size=12).map(str.encode)
separator = st.sampled_from([b"\n", b"a", b"ab", b"ba", b"\nc", b"abab", b"aab", bytearray(b"bc"), b""])
separators = separator if not MANY_SEPARATORS else separator | st.lists(separator, max_size=3).map(tuple)
steps = st.one_of(
    st.tuples(st.just("feed"), data),
    st.tuples(st.just("feed"), data.map(bytearray)),
    st.tuples(st.just("turn"), st.none()),
    st.tuples(st.just("readline"), st.none()),
    st.tuples(st.just("next line"), st.none()),
    st.tuples(st.just("readuntil"), separators),
    st.tuples(st.just("read"), st.integers(-1, 10)),
    st.tuples(st.just("readexactly"), st.integers(-1, 12)),
    st.tuples(st.just("cancel"), st.integers(0, 3)),
    st.tuples(st.just("limit"), st.integers(1, 6)),
    st.tuples(st.just("look"), st.none()),
    st.tuples(st.just("eof"), st.none()),
    st.tuples(st.just("fail"), st.none()),
)
# Ends are rare in long programs.
programs = st.lists(steps.filter(lambda step: step[0] not in ("eof", "fail")), max_size=12).flatmap(
    lambda start: st.lists(steps, max_size=8).map(lambda end: start + end)
)


def describe(error):
    about = {name: getattr(error, name) for name in ("partial", "expected", "consumed") if hasattr(error, name)}
    return type(error), str(error), about, type(error.__context__)


async def play(make, program, limit, can_pause):
    """What happens, in order."""
    reader, transport, trace, tasks = make(limit=limit), Transport(can_pause), [], []
    reader.set_transport(transport)
    start = {
        "readline": lambda _: reader.readline(),
        "next line": lambda _: reader.__anext__(),
        "readuntil": reader.readuntil,
        "read": reader.read,
        "readexactly": reader.readexactly,
    }

    async def note(number, function, argument):
        try:
            trace.append((number, await function(argument)))
        except BaseException as error:
            trace.append((number, describe(error)))

    for kind, argument in program:
        try:
            if kind == "feed":
                reader.feed_data(argument)
            elif kind == "turn":
                await asyncio.sleep(0)
            elif kind == "cancel" and argument < len(tasks):
                tasks[-1 - argument].cancel()
            elif kind == "limit":
                reader._limit = argument
            elif kind == "look":
                trace.append(bytes(reader._buffer))
            elif kind == "eof":
                reader.feed_eof()
            elif kind == "fail":
                reader.set_exception(ConnectionResetError("failed"))
            elif kind in start:
                tasks.append(asyncio.ensure_future(note(len(tasks), start[kind], argument)))
        except AssertionError as error:
            trace.append(str(error))
        trace.append((kind, transport.calls.copy(), reader.at_eof(), reader._paused, reader._waiter is None))
    for _ in range(3):
        await asyncio.sleep(0)
    left = [task.done() for task in tasks]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return trace, left, bytes(reader._buffer), repr(reader.exception()), transport.calls, reader._transport is None


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
@settings(max_examples=400, deadline=None)
@given(program=programs, limit=st.integers(1, 8), can_pause=st.booleans())
def test_every_interleaving_is_as_with_asyncios_own_reader(new_loop, program, limit, can_pause):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        expected = runner.run(play(Oracle, program, limit, can_pause))
        assert runner.run(play(ferrio.StreamReader, program, limit, can_pause)) == expected


big_steps = st.one_of(
    st.tuples(st.just("feed"), st.tuples(data, st.sampled_from([1, 5_000, 20_000])).map(lambda one: one[0] * one[1])),
    st.tuples(st.just("readexactly"), st.sampled_from([10, 65_535, 65_536, 65_537, 100_000, 200_000])),
    st.tuples(st.just("read"), st.sampled_from([10, 70_000, 1_000_000])),
    *[st.tuples(st.just(kind), st.none()) for kind in ("turn", "readline", "look", "eof")],
    st.tuples(st.just("cancel"), st.integers(0, 3)),
)


@settings(max_examples=300, deadline=None)
@given(program=st.lists(big_steps, max_size=20))
def test_big_blocks_are_as_with_asyncios_own_reader(program):
    """Whoever waits for one finds it where the bytes were received."""
    with asyncio.Runner(loop_factory=ferrio.new_event_loop) as runner:
        expected = runner.run(play(Oracle, program, 64 * 1024, True))
        assert runner.run(play(ferrio.StreamReader, program, 64 * 1024, True)) == expected


reads = st.one_of(
    st.tuples(st.just("readline"), st.none()),
    st.tuples(st.just("readuntil"), st.sampled_from([b"\n", b"ab", b"abc"])),
    st.tuples(st.just("readexactly"), st.integers(0, 40_000)),
    st.tuples(st.just("readexactly"), st.integers(64 * 1024, 300_000)),
    st.tuples(st.just("read"), st.integers(1, 40_000)),
)


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(st.tuples(data, st.sampled_from([1, 10, 1_000, 20_000]), st.booleans()), max_size=12),
    plan=st.lists(reads, min_size=1, max_size=6),
    looks=st.booleans(),
)
def test_what_is_sent_is_what_is_read_however_it_is_cut(new_loop, pieces, plan, looks):
    """Over a real socket. The sender sends some pieces together, and waits a turn after the others."""
    whole = b"".join(piece * times for piece, times, _ in pieces)

    async def main():
        ours, theirs = socket.socketpair()
        # Room for all of it, so that sending never blocks.
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
        theirs.setblocking(False)
        # A limit above it, too: without a separator in it, readline() and readuntil() read the whole.
        reader, writer = await ferrio.open_unix_connection(sock=ours, limit=len(whole) + 1)

        async def send():
            for piece, times, alone in pieces:
                await asyncio.get_running_loop().sock_sendall(theirs, piece * times)
                if alone:
                    await asyncio.sleep(0)
            theirs.close()

        sending = asyncio.ensure_future(send())
        got = []
        while True:
            # At last something that gets on, whatever the plan.
            for kind, argument in [*plan, ("read", 100)]:
                try:
                    block = await (reader.readline() if kind == "readline" else getattr(reader, kind)(argument))
                except asyncio.IncompleteReadError as error:
                    block = error.partial
                check(kind, argument, block)
                got.append(block)
                if looks:
                    assert type(reader._buffer) is bytearray
            if reader.at_eof():
                break
        await sending
        writer.close()
        await writer.wait_closed()
        assert b"".join(got) == whole

    def check(kind, argument, block):
        if kind == "readline":
            assert b"\n" not in block[:-1]
        elif kind == "readuntil":
            assert argument not in block[:-1]
        else:
            assert len(block) <= argument

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
