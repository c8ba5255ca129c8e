"""Servers' callbacks: coroutines and plain functions, and what becomes of the connection when they fail."""

import asyncio
import contextvars
import gc
import sys
import weakref

import ferrio
import pytest

from .support import close, echo, served


def test_a_servers_coroutine_is_a_task_that_lives_as_long_as_it_takes(run, streams):
    async def main():
        finished = asyncio.get_running_loop().create_future()

        async def handle(reader, writer):
            # Nobody but the connection knows of what is waited for.
            assert await reader.readline() == b"go on\n"
            await close(writer)
            finished.set_result(None)

        async with served(streams, handle) as connect:
            reader, writer = await connect()
            await asyncio.sleep(0.01)
            gc.collect()
            writer.write(b"go on\n")
            await finished
            await close(writer)

    run(main())


def skip_if_asyncios_drop_it(streams):
    if streams is asyncio and sys.version_info < (3, 11, 7):
        pytest.skip("early versions of 3.11 say nothing of it, and leave the connection open")


def test_a_servers_coroutine_that_fails_is_reported_and_its_connection_closed(run, streams):
    skip_if_asyncios_drop_it(streams)

    async def fails(reader, writer):
        await reader.readline()
        raise ZeroDivisionError("in the callback")

    async def main():
        async with served(streams, fails) as connect:
            reader, writer = await connect()
            writer.write(b"\n")
            assert await reader.read() == b""
            await close(writer)

    run(main(), expect=["Unhandled exception in client_connected_cb"])
    [context] = run.reported
    assert str(context["exception"]) == "in the callback"
    assert "transport" in context


def test_a_failed_servers_coroutine_is_reported_in_the_context_of_its_connection(run, streams):
    skip_if_asyncios_drop_it(streams)

    name, seen = contextvars.ContextVar("name"), []

    async def fails(reader, writer):
        name.set("the task's own")
        await reader.readline()
        raise ZeroDivisionError

    async def main():
        name.set("the server's")
        async with served(streams, fails) as connect:
            reader, writer = await connect()
            loop = asyncio.get_running_loop()
            noting = loop.get_exception_handler()
            loop.set_exception_handler(lambda *report: (seen.append(name.get()), noting(*report)))
            name.set("the client's")
            writer.write(b"\n")
            assert await reader.read() == b""
            await close(writer)

    run(main(), expect=["Unhandled exception in client_connected_cb"])
    assert seen == ["the server's"]


def test_a_servers_cancelled_coroutine_closes_its_connection_and_says_nothing(run):
    async def main():
        tasks = []

        async def handle(reader, writer):
            tasks.append(asyncio.current_task())
            await reader.readline()

        async with served(ferrio, handle) as connect:
            reader, writer = await connect()
            while not tasks:
                await asyncio.sleep(0)
            tasks[0].cancel()
            assert await reader.read() == b""
            await close(writer)

    run(main())


def test_a_servers_plain_callback_that_fails_is_reported_and_its_connection_closed(run):
    # asyncio does so from 3.14 on; ferrio on every version.
    def fails(reader, writer):
        raise ZeroDivisionError("in the callback")

    async def main():
        async with served(ferrio, fails) as connect:
            reader, writer = await connect()
            assert await reader.read() == b""
            await close(writer)

    run(main(), expect=["Unhandled exception in client_connected_cb"])


def test_the_protocol_keeps_no_reader_alive(run, streams):
    async def main():
        async with served(streams, echo) as connect:
            reader, writer = await connect()
            transport = writer.transport
            known = weakref.ref(reader)
            writer._reader = None
            del reader
            gc.collect()
            assert known() is None
            # What arrives for nobody is dropped.
            writer.write(b"hello?")
            await asyncio.sleep(0.02)
            transport.abort()
            await asyncio.sleep(0.01)

    run(main())
