"""Checked, not run: what a typed program may expect of ferrio. `make types` has pyright and mypy read it."""

import asyncio
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from traceback import FrameSummary
from typing import Any, Literal, assert_type

import ferrio
from ferrio import observe


async def main() -> int:
    return 1


assert_type(ferrio.run(main()), int)
assert_type(ferrio.run(main(), debug=True, loop_factory=ferrio.new_event_loop), int)
with asyncio.Runner(loop_factory=ferrio.new_event_loop) as runner:
    assert_type(runner.run(main()), int)
asyncio.Runner(loop_factory=ferrio.EventLoop)
assert_type(ferrio.__version__, str)
ferrio.install()
ferrio.uninstall()
asyncio.set_event_loop(ferrio.EventLoopPolicy().new_event_loop())


def slow(step: observe.SlowStep) -> None:
    assert_type(step.stack[-1].lineno, int | None)


assert_type(observe.loop_stats().lateness.percentile(99), float)
assert_type(observe.level("flight"), Literal["off", "pulse", "flight", "deep"])
assert_type([stats.where for stats in observe.tasks()], list[FrameSummary | None])
with observe.on_slow_step(slow, threshold=0.2) as watch:
    watch.cancel()


class Echo(asyncio.Protocol):
    pass


class Shout(asyncio.DatagramProtocol):
    pass


class Child(asyncio.SubprocessProtocol):
    pass


def add(first: int, second: int) -> int:
    return first + second


def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    loop.default_exception_handler(context)


async def everything(loop: ferrio.EventLoop, sock: socket.socket, tls: ssl.SSLContext) -> None:
    abstract: asyncio.AbstractEventLoop = loop
    assert_type(loop.call_soon(add, 1, 2), asyncio.Handle)
    assert_type(loop.call_later(0.5, add, 1, 2), asyncio.TimerHandle)
    assert_type(loop.create_task(main()), asyncio.Task[int])
    assert_type(await loop.run_in_executor(None, add, 1, 2), int)
    assert_type(abstract.time(), float)
    loop.set_default_executor(ThreadPoolExecutor())
    loop.set_exception_handler(on_error)

    assert_type(await loop.create_connection(Echo, "localhost", 80, ssl=tls), tuple[asyncio.Transport, Echo])
    assert_type(await loop.create_connection(Echo, sock=sock), tuple[asyncio.Transport, Echo])
    assert_type(await loop.create_datagram_endpoint(Shout), tuple[asyncio.DatagramTransport, Shout])
    assert_type(await loop.subprocess_exec(Child, "true"), tuple[asyncio.SubprocessTransport, Child])
    async with await loop.create_server(Echo, "localhost", 0) as server:
        assert_type(server, ferrio.Server)
        server.close_clients()

    assert_type(await loop.sock_recv(sock, 10), bytes)
    assert_type(await loop.sock_accept(sock), tuple[socket.socket, Any])


# Mistakes that the stubs have to catch.
loop = ferrio.new_event_loop()
loop.call_soon(add, 1)  # type: ignore
loop.call_later("1", add, 1, 2)  # type: ignore
loop.add_reader("file", print)  # type: ignore
ferrio.run(main)  # type: ignore
