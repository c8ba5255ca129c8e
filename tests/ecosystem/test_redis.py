"""redis-py's asyncio client against a real Redis: over TCP, TLS and a Unix socket."""

import asyncio
import os

import databases
import pytest
from redis.asyncio import BlockingConnectionPool, Redis


@pytest.fixture(scope="module")
def server(certificates):
    with databases.redis(certificates) as server:
        yield server


@pytest.fixture
def session(run, server, check_loop):
    """Runs `work(redis)` on the loop under test."""

    def session(work, **options):
        async def main():
            async with Redis(**options) if options else Redis.from_url(server.url) as redis:
                await work(redis)
                check_loop()

        return run(main())

    return session


async def values_of_every_size(redis):
    for value in b"", b"small", os.urandom(100_000), os.urandom(5_000_000):
        assert await redis.set("value", value)
        assert await redis.get("value") == value


def test_values(session):
    session(values_of_every_size)


def test_tls(session, server, certificates):
    server.own()
    session(
        values_of_every_size, host="localhost", port=server.port, ssl=True, ssl_ca_certs=certificates.authority
    )  # fmt: skip


def test_unix_socket(session, server):
    session(values_of_every_size, unix_socket_path=server.socket)


def test_pipeline(session):
    async def work(redis):
        await redis.delete("counter")
        async with redis.pipeline(transaction=True) as pipe:
            for _ in range(1000):
                pipe.incr("counter")
            assert await pipe.execute() == list(range(1, 1001))

    session(work)


def test_publish_and_subscribe(session):
    async def work(redis):
        async with redis.pubsub() as subscription:
            await subscription.subscribe("news")
            assert (await subscription.get_message(timeout=10))["type"] == "subscribe"
            for number in range(100):
                await redis.publish("news", number)
            messages = [await subscription.get_message(timeout=10) for _ in range(100)]
            assert [int(message["data"]) for message in messages] == list(range(100))
            assert await subscription.get_message(timeout=0.05) is None

    session(work)


def test_a_blocking_pop_waits_for_a_push(session):
    async def work(redis):
        await redis.delete("jobs")
        waiting = asyncio.create_task(redis.blpop("jobs", timeout=10))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await redis.rpush("jobs", "job")
        assert await waiting == (b"jobs", b"job")

    session(work)


def test_a_cancelled_command_does_not_confuse_the_next(session):
    async def work(redis):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(redis.blpop("nothing", timeout=10), 0.1)
        assert await redis.echo("next") == b"next"

    session(work)


def test_pool_under_load(run, server):
    async def main():
        async with Redis(connection_pool=BlockingConnectionPool.from_url(server.url, max_connections=10)) as redis:
            answers = await asyncio.gather(*(redis.echo(str(number)) for number in range(1000)))
            assert answers == [str(number).encode() for number in range(1000)]

    run(main())
