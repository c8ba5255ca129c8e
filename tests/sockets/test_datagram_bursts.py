"""What a protocol sends while datagrams come in bursts: ferrio sends it together, and nobody is to notice."""

import asyncio
import contextlib
import errno
import os
import random
import socket
import sys

import pytest

from .conftest import turns
from .endpoints import ANY, Recorder, closed, drain, endpoint

SENDS_EMPTY = sys.version_info >= (3, 13)


class Answering(Recorder):
    """Calls `answer(transport, data, addr)` for each datagram."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        self.answer(self.transport, data, addr)


def echo(transport, data, addr):
    transport.sendto(b"re: " + data, addr)


def numbers(count):
    return [b"%d" % number for number in range(count)]


@pytest.fixture
def plain():
    """A socket without a loop, to ask from."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(ANY)
        sock.setblocking(False)
        yield sock


async def server(loop, answer, **options):
    return await loop.create_datagram_endpoint(lambda: Answering(answer), **options or {"local_addr": ANY})


async def ask(sock, transport, questions):
    """The server gets all of them at once; what it is told, until it has seen the last."""
    protocol = transport.get_protocol()
    for question in questions:
        sock.sendto(question, transport.get_extra_info("sockname"))
    await until(lambda: questions[-1] in protocol.received)
    return protocol


async def until(condition):
    """Waits, and leaves the loop with nothing else to do: a burst is what comes while it has not."""
    while not condition():
        await asyncio.sleep(0.001)


# --- order -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 16, 17, 18, 40, 100])
def test_answers_leave_in_order_and_none_is_missing(run, plain, count):
    async def main(loop):
        transport, _ = await server(loop, echo)
        protocol = await ask(plain, transport, numbers(count))
        await turns()
        assert protocol.received == numbers(count)
        assert drain(plain) == [b"re: " + number for number in numbers(count)]
        await closed(transport)

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="no system call for several datagrams")
def test_answers_in_a_burst_leave_together_after_it(run_on_ferrio, plain):
    # How it can be seen at all: another socket is faster.
    async def main(loop):
        def answer(transport, data, addr):
            echo(transport, data, addr)
            plain.sendto(b"seen " + data, addr)

        transport, protocol = await server(loop, answer)
        together = [b"re: 0", b"seen 0", b"seen 1", b"seen 2", b"seen 3", b"re: 1", b"re: 2", b"re: 3"]
        # A burst ends early where a tick of the clock falls into it, which a busy machine makes likely: then again.
        for _ in range(100):
            protocol.events.clear()
            await ask(plain, transport, numbers(4))
            await turns()
            answers = drain(plain)
            for kind in (b"re: ", b"seen "):
                assert [answer for answer in answers if answer.startswith(kind)] == [kind + n for n in numbers(4)]
            if answers == together:
                break
        else:
            pytest.fail(f"never together: {answers}")
        await closed(transport)

    run_on_ferrio(main)


def test_what_a_datagram_sets_off_finds_the_answers_sent(run, plain):
    async def main(loop):
        seen = []

        def answer(transport, data, addr):
            echo(transport, data, addr)
            if data == b"2":
                loop.call_soon(lambda: seen.extend(drain(plain)))

        transport, _ = await server(loop, answer)
        await ask(plain, transport, numbers(6))
        assert seen == [b"re: 0", b"re: 1", b"re: 2"]
        await closed(transport)

    run(main)


def test_several_answers_to_one_question_stay_in_order(run, plain):
    async def main(loop):
        def answer(transport, data, addr):
            for index in range(7):
                transport.sendto(b"%s.%d" % (data, index), addr)

        transport, _ = await server(loop, answer)
        await ask(plain, transport, numbers(9))
        await turns()
        assert drain(plain) == [b"%d.%d" % (number, index) for number in range(9) for index in range(7)]
        await closed(transport)

    run(main)


def test_a_looked_up_name_and_a_number_keep_their_order(run, plain):
    async def main(loop):
        def answer(transport, data, addr):
            transport.sendto(b"number " + data, addr)
            transport.sendto(b"name " + data, ("localhost", addr[1]))

        transport, _ = await server(loop, answer)
        await ask(plain, transport, numbers(5))
        await turns()
        assert drain(plain) == [kind + number for number in numbers(5) for kind in (b"number ", b"name ")]
        await closed(transport)

    run(main)


def test_each_sender_gets_its_own_answers(run):
    # More than are remembered, so that some share a place.
    async def main(loop):
        transport, protocol = await server(loop, echo)
        address = transport.get_extra_info("sockname")
        senders = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(400)]
        try:
            for sock in senders:
                sock.setblocking(False)
                sock.connect(address)
            for start in range(0, len(senders), 40):
                for turn in range(2):
                    for sock in senders[start : start + 40]:
                        sock.send(b"%d from %d" % (turn, sock.getsockname()[1]))
                    await until(lambda count=2 * start + 40 * (turn + 1): len(protocol.received) == count)
            await turns()
            for _, data, addr in protocol.events[1:]:
                assert data.endswith(b"from %d" % addr[1])
                assert addr[0] == "127.0.0.1"
            for sock in senders:
                port = sock.getsockname()[1]
                assert drain(sock) == [b"re: %d from %d" % (turn, port) for turn in range(2)]
        finally:
            for sock in senders:
                sock.close()
        await closed(transport)

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
@pytest.mark.parametrize("what", ["port", "host"])
def test_senders_take_turns_and_keep_their_address_objects(run_on_ferrio, what):
    async def main(loop):
        transport, protocol = await endpoint(loop, local_addr=ANY)
        with contextlib.ExitStack() as stack:
            senders = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(20)]
            senders[0].bind(ANY)
            port = senders[0].getsockname()[1]
            for number, sock in enumerate(senders[1:], 2):
                sock.bind((f"127.0.0.{number}", port) if what == "host" else ANY)
            for _ in range(3):
                for sock in senders:
                    sock.sendto(b"x", transport.get_extra_info("sockname"))
            await until(lambda: len(protocol.received) == 60)
            addresses = [event[2] for event in protocol.events if event[0] == "received"]
            assert addresses == 3 * [sock.getsockname() for sock in senders]
        # Two may share a place.
        assert sum(addresses[index + 20] is addresses[index + 40] for index in range(20)) > 10
        await closed(transport)

    run_on_ferrio(main)


# --- what is sent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview], ids=lambda kind: kind.__name__)
def test_what_was_sent_may_be_changed_afterwards(run, plain, kind):
    async def main(loop):
        def answer(transport, data, addr):
            memory = bytearray(b"re: " + data)
            transport.sendto(kind(memory), addr)
            memory[:] = bytes(len(memory))

        transport, _ = await server(loop, answer)
        await ask(plain, transport, numbers(5))
        await turns()
        assert drain(plain) == [b"re: " + number for number in numbers(5)]
        await closed(transport)

    run(main)


def test_memory_in_pieces_is_the_same_error_as_ever(run, plain):
    async def main(loop):
        errors = []
        loop.set_exception_handler(
            lambda loop, context: errors.append((type(context["exception"]), context["message"]))
        )

        def answer(transport, data, addr):
            echo(transport, data, addr)
            if data == b"2":
                transport.sendto(memoryview(bytes(10))[::2], addr)

        transport, protocol = await server(loop, answer)
        await ask(plain, transport, numbers(3))
        await protocol.until("lost")
        assert errors == [(BufferError, "Fatal write error on datagram transport")]
        assert drain(plain) == [b"re: 0", b"re: 1", b"re: 2"]

    run(main)


def test_empty_and_large_datagrams(run, plain):
    async def main(loop):
        large = os.urandom(65507)
        answers = [b"a", b"", large, b"b", b"", large[:40_000], b"c"]

        def answer(transport, data, addr):
            for data in answers:
                transport.sendto(data, addr)

        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        transport, _ = await server(loop, answer)
        received = []
        for question in (b"x", b"y"):
            plain.sendto(question, transport.get_extra_info("sockname"))

        def complete():
            received.extend(drain(plain))
            return received.count(b"c") == 2

        await until(complete)
        assert received == 2 * [data for data in answers if data or SENDS_EMPTY]
        await closed(transport)

    run(main)


def test_ipv6_with_a_scope(run):
    async def main(loop):
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind(("::1", 0))
            transport, protocol = await server(loop, echo, local_addr=("::1", 0))
            await ask(sock, transport, numbers(5))
            await turns()
            assert {event[2] for event in protocol.events if event[0] == "received"} == {sock.getsockname()}
            assert drain(sock) == [b"re: " + number for number in numbers(5)]
        await closed(transport)

    run(main)


def test_a_connected_endpoint(run, plain):
    async def main(loop):
        def answer(transport, data, addr):
            transport.sendto(b"to " + data)
            transport.sendto(b"back " + data, addr)
            with pytest.raises(ValueError, match="Invalid address"):
                transport.sendto(b"x", ("127.0.0.1", 1))

        transport, _ = await server(loop, answer, remote_addr=plain.getsockname())
        await ask(plain, transport, numbers(5))
        await turns()
        assert drain(plain) == [kind + number for number in numbers(5) for kind in (b"to ", b"back ")]
        await closed(transport)

    run(main)


def test_nothing_seems_to_wait(run, plain):
    async def main(loop):
        sizes = []

        def answer(transport, data, addr):
            echo(transport, data, addr)
            sizes.append(transport.get_write_buffer_size())

        transport, _ = await server(loop, answer)
        await ask(plain, transport, numbers(5))
        assert sizes == [0] * 5
        assert drain(plain) == [b"re: " + number for number in numbers(5)]
        await closed(transport)

    run(main)


# --- errors ----------------------------------------------------------------------------------------------------------


def test_one_of_several_that_cannot_leave_does_not_keep_the_others(run, plain):
    async def main(loop):
        def answer(transport, data, addr):
            if data in (b"2", b"5"):
                transport.sendto(bytes(70_000), addr)
            echo(transport, data, addr)

        transport, _ = await server(loop, answer)
        protocol = await ask(plain, transport, numbers(6))
        await turns()
        assert drain(plain) == [b"re: " + number for number in numbers(6)]
        errors = [event for event in protocol.events if event[0] == "error"]
        assert errors == [("error", OSError, errno.EMSGSIZE)] * 2
        assert not transport.is_closing()
        await closed(transport)

    run(main)


def test_an_error_is_told_before_anything_else_runs(run, plain):
    async def main(loop):
        later = []

        def answer(transport, data, addr):
            if data == b"2":
                loop.call_soon(lambda: later.extend(transport.get_protocol().events))
                transport.sendto(bytes(70_000), addr)

        transport, _ = await server(loop, answer)
        await ask(plain, transport, numbers(3))
        await turns()
        assert later[-1] == ("error", OSError, errno.EMSGSIZE)
        await closed(transport)

    run(main)


@pytest.mark.parametrize("act", ["close", "abort"])
def test_error_received_may_end_the_endpoint(run, plain, act):
    async def main(loop):
        class Protocol(Answering):
            def error_received(self, exc):
                super().error_received(exc)
                getattr(self.transport, act)()

        def answer(transport, data, addr):
            echo(transport, data, addr)
            if data == b"2":
                transport.sendto(bytes(70_000), addr)

        errors = []
        loop.set_exception_handler(lambda loop, context: errors.append(context))
        transport, protocol = await loop.create_datagram_endpoint(lambda: Protocol(answer), local_addr=ANY)
        await ask(plain, transport, numbers(3))
        await protocol.until("lost")
        assert [event[0] for event in protocol.events[-2:]] == ["error", "lost"]
        assert drain(plain) == [b"re: 0", b"re: 1", b"re: 2"]
        assert errors == []

    run(main)


def test_what_error_received_sends_leaves_too(run, plain):
    async def main(loop):
        class Protocol(Answering):
            def error_received(self, exc):
                super().error_received(exc)
                self.transport.sendto(b"sorry", plain.getsockname())

        def answer(transport, data, addr):
            transport.sendto(bytes(70_000), addr)

        transport, _ = await loop.create_datagram_endpoint(lambda: Protocol(answer), local_addr=ANY)
        await ask(plain, transport, numbers(4))
        await turns(10)
        assert drain(plain) == [b"sorry"] * 4
        await closed(transport)

    run(main)


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
def test_what_was_sent_before_the_callback_raised_has_left(run, new_loop, plain, kind):
    def answer(transport, data, addr):
        echo(transport, data, addr)
        if data == b"2":
            raise kind

    async def main(loop):
        errors = []
        loop.set_exception_handler(lambda loop, context: errors.append(type(context["exception"])))
        transport, _ = await server(loop, answer)
        await ask(plain, transport, numbers(4))
        await turns()
        assert errors == [ZeroDivisionError]
        assert drain(plain) == [b"re: " + number for number in numbers(4)]
        await closed(transport)

    if kind is ZeroDivisionError:
        run(main)
        return
    loop = new_loop()
    transport, protocol = loop.run_until_complete(server(loop, answer))
    for number in numbers(4):
        plain.sendto(number, transport.get_extra_info("sockname"))
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert drain(plain) == [b"re: 0", b"re: 1", b"re: 2"]
    loop.run_until_complete(until(lambda: b"3" in protocol.received))
    loop.run_until_complete(turns())
    assert drain(plain) == [b"re: 3"]
    loop.run_until_complete(closed(transport))


def test_what_error_received_raises_is_reported_and_the_rest_leaves(run, plain):
    class Protocol(Answering):
        def error_received(self, exc):
            raise ZeroDivisionError

    async def main(loop):
        errors = []
        loop.set_exception_handler(lambda loop, context: errors.append(type(context["exception"])))

        def answer(transport, data, addr):
            echo(transport, data, addr)
            if data == b"2":
                transport.sendto(bytes(70_000), addr)

        transport, _ = await loop.create_datagram_endpoint(lambda: Protocol(answer), local_addr=ANY)
        await ask(plain, transport, numbers(5))
        await turns()
        assert errors == [ZeroDivisionError]
        assert drain(plain) == [b"re: " + number for number in numbers(5)]
        await closed(transport)

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere loopback may not tell")
def test_a_peer_that_is_gone_is_an_error_received(run, plain):
    async def main(loop):
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.bind(ANY)
            transport, protocol = await server(
                loop, lambda transport, data, addr: transport.sendto(data), remote_addr=peer.getsockname()
            )
            for number in numbers(6):
                peer.sendto(number, transport.get_extra_info("sockname"))
        assert await protocol.until("error") == ("error", ConnectionRefusedError, errno.ECONNREFUSED)
        await until(lambda: len(protocol.received) == 6)
        assert not transport.is_closing()
        await closed(transport)

    run(main)


# --- the end in the middle -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("last", range(4))
def test_after_the_end_nothing_is_received_and_what_was_sent_has_left(run, plain, end, last):
    async def main(loop):
        def answer(transport, data, addr):
            echo(transport, data, addr)
            if int(data) == last:
                getattr(transport, end)()

        transport, protocol = await server(loop, answer)
        for number in numbers(6):
            plain.sendto(number, transport.get_extra_info("sockname"))
        await protocol.until("lost")
        await turns()
        assert protocol.received == numbers(last + 1)
        assert drain(plain) == [b"re: " + number for number in numbers(last + 1)]

    run(main)


def test_a_pause_in_the_middle_loses_nothing(run, plain):
    if not hasattr(asyncio.selector_events._SelectorDatagramTransport, "pause_reading"):
        pytest.skip("early versions of 3.11 have endpoints that cannot pause")

    async def main(loop):
        def answer(transport, data, addr):
            echo(transport, data, addr)
            if data in (b"1", b"4"):
                transport.pause_reading()
                loop.call_soon(lambda: loop.call_soon(transport.resume_reading))

        transport, _ = await server(loop, answer)
        await ask(plain, transport, numbers(8))
        await turns()
        assert drain(plain) == [b"re: " + number for number in numbers(8)]
        await closed(transport)

    run(main)


# --- no room ---------------------------------------------------------------------------------------------------------


async def unix_server(loop, far, near, answer):
    """An endpoint that is connected to `far`, which does not read; and a socket that asks it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(near)
    sock.connect(far.getsockname())
    return await server(loop, answer, sock=sock)


@pytest.mark.parametrize("end", ["none", "close"])
def test_what_the_kernel_has_no_room_for_waits_in_order(run, far, tmp_path, end):
    async def main(loop):
        sent = []

        def answer(transport, data, addr):
            for _ in range(10):
                sent.append(b"%d" % len(sent) + bytes(500))
                transport.sendto(sent[-1])
            if end == "close" and data == b"4":
                transport.close()

        near = str(tmp_path / "near")
        transport, protocol = await unix_server(loop, far, near, answer)
        # (Early versions of 3.13 go on counting eight bytes of each datagram that has left.)
        transport.set_write_buffer_limits(high=2000, low=1000)
        for number in numbers(5):
            far.sendto(number, near)
        await until(lambda: len(sent) == 50)
        assert transport.get_write_buffer_size() > 2000
        assert protocol.events.count(("pause",)) == 1
        received = []
        while len(received) < 50:
            received += drain(far)
            await asyncio.sleep(0)
        assert received == sent
        if end == "none":
            await until(lambda: ("resume",) in protocol.events)
            transport.close()
        await protocol.until("lost")

    run(main)


def test_abort_throws_away_only_what_the_kernel_had_no_room_for(run, far, tmp_path):
    async def main(loop):
        def answer(transport, data, addr):
            for index in range(10):
                transport.sendto(b"%s.%d" % (data, index))
            if data == b"4":
                transport.abort()

        near = str(tmp_path / "near")
        transport, protocol = await unix_server(loop, far, near, answer)
        for number in numbers(5):
            far.sendto(number, near)
        await protocol.until("lost")
        received = drain(far)
        assert 0 < len(received) < 50
        assert received == [b"%d.%d" % (number, index) for number in range(5) for index in range(10)][: len(received)]

    run(main)


# --- programs --------------------------------------------------------------------------------------------------------


def program(seed):
    """What a protocol does for each of its datagrams: a list of (what, with what)."""
    chance = random.Random(seed)
    kinds = ["answer", "answer", "answer", "bytearray", "large", "too large", "name", "later", "size", "raise", "pause"]
    if seed % 3 == 0:
        kinds += ["close", "abort"]
    return [
        [(chance.choice(kinds), b"%d.%d" % (index, part)) for part in range(chance.choice([0, 1, 1, 2, 5]))]
        for index in range(chance.randrange(2, 40))
    ]


def outcome(make_loop, steps):
    """What the program's protocol hears, and what its peer gets."""

    async def main():
        loop = asyncio.get_running_loop()
        heard = []
        loop.set_exception_handler(lambda loop, context: heard.append(type(context["exception"]).__name__))
        can_pause = hasattr(asyncio.selector_events._SelectorDatagramTransport, "pause_reading")

        class Protocol(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                heard.append(data)
                for what, text in steps[int(data)]:
                    self.act(what, text, addr)

            def act(self, what, text, addr):
                send = self.transport.sendto
                match what:
                    case "answer":
                        send(text, addr)
                    case "bytearray":
                        send(memoryview(bytearray(text)), addr)
                    case "large":
                        send(text.ljust(9000, b"."), addr)
                    case "too large":
                        send(text.ljust(70_000, b"."), addr)
                    case "name":
                        send(text, ("localhost", addr[1]))
                    case "later":
                        loop.call_soon(self.send_later, text, addr)
                    case "size":
                        heard.append(self.transport.get_write_buffer_size())
                    case "raise":
                        raise ZeroDivisionError
                    case "pause" if can_pause:
                        self.transport.pause_reading()
                        loop.call_later(0.002, self.transport.resume_reading)
                    case "close" | "abort":
                        getattr(self.transport, what)()

            def send_later(self, text, addr):
                if not self.transport.is_closing():
                    self.transport.sendto(text, addr)

            def error_received(self, exc):
                errors.append(exc.errno)

            def connection_lost(self, exc):
                heard.append(("lost", exc))

        errors = []
        transport, _ = await loop.create_datagram_endpoint(Protocol, local_addr=ANY)
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            peer.setblocking(False)
            peer.bind(ANY)
            for index in range(len(steps)):
                peer.sendto(b"%d" % index, transport.get_extra_info("sockname"))
            await until(lambda: b"%d" % (len(steps) - 1) in heard or ("lost", None) in heard)
            await turns(10)
            transport.close()
            await until(lambda: ("lost", None) in heard)
            return heard, errors, drain(peer)

    loop = make_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(main(), 20))
    finally:
        loop.close()


@pytest.mark.parametrize("seed", range(60))
def test_random_programs_have_the_same_outcome_on_both_loops(seed):
    import ferrio

    steps = program(seed)
    assert outcome(ferrio.EventLoop, steps) == outcome(asyncio.SelectorEventLoop, steps)
