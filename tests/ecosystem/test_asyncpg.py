"""asyncpg against a real PostgreSQL: over TCP, TLS (negotiated after connecting) and a Unix socket."""

import asyncio
import io

import asyncpg
import databases
import pytest


@pytest.fixture(scope="module")
def server(certificates):
    with databases.postgres(certificates) as server:
        yield server


@pytest.fixture
def session(run, server):
    """Runs `work(connection)` on the loop under test."""

    def session(work, **options):
        async def main():
            connection = await asyncpg.connect(server.url, **options)
            try:
                return await work(connection)
            finally:
                await connection.close()

        return run(main())

    return session


def test_queries(session):
    async def work(connection):
        assert await connection.fetchval("select $1::int + 1", 41) == 42
        rows = await connection.fetch("select n, n::text as t from generate_series(1, 10000) n")
        assert [(row["n"], row["t"]) for row in rows] == [(n, str(n)) for n in range(1, 10001)]
        large = b"\x00\xff" * 2_000_000
        assert await connection.fetchval("select $1::bytea", large) == large

    session(work)


def test_a_failed_transaction_is_rolled_back(session):
    async def work(connection):
        await connection.execute("create temporary table item (id int primary key)")
        with pytest.raises(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await connection.execute("insert into item values (1)")
                await connection.execute("insert into item values (1)")
        assert await connection.fetchval("select count(*) from item") == 0
        async with connection.transaction():
            await connection.executemany("insert into item values ($1)", [(n,) for n in range(1000)])
        async with connection.transaction():
            assert [row["id"] async for row in connection.cursor("select id from item order by id")] == list(
                range(1000)
            )

    session(work)


def test_copy_both_ways(session):
    async def work(connection):
        await connection.execute("create temporary table item (id int, name text)")
        await connection.copy_records_to_table("item", records=[(n, f"name {n}") for n in range(50_000)])
        out = io.BytesIO()
        await connection.copy_from_table("item", output=out)
        lines = out.getvalue().decode().splitlines()
        assert (len(lines), lines[-1]) == (50_000, "49999\tname 49999")

    session(work)


def test_notifications(session):
    async def work(connection):
        received = asyncio.Queue()
        await connection.add_listener("news", lambda *args: received.put_nowait(args[3]))
        await connection.execute("select pg_notify('news', 'hello')")
        assert await asyncio.wait_for(received.get(), 10) == "hello"

    session(work)


def test_a_timeout_cancels_the_query(session):
    async def work(connection):
        with pytest.raises(TimeoutError):
            await connection.fetchval("select pg_sleep(30)", timeout=0.2)
        assert await connection.fetchval("select 1") == 1

    session(work)


def test_pool_under_load(run, server, check_loop):
    async def main():
        async with asyncpg.create_pool(server.url, min_size=2, max_size=8) as pool:

            async def one(number):
                value = await pool.fetchval("select $1::int * 2 from pg_sleep(0.001)", number)
                check_loop()
                return value

            assert await asyncio.gather(*map(one, range(500))) == [number * 2 for number in range(500)]

    run(main())


def test_tls(session, server, certificates):
    server.own()

    async def work(connection):
        assert await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()") is True
        large = "x" * 3_000_000
        assert await connection.fetchval("select $1::text", large) == large

    session(work, ssl=certificates.client_context())


def test_unix_socket(session, server):
    async def work(connection):
        assert await connection.fetchval("select inet_client_addr()") is None

    session(work, host=str(server.own()), port=server.port)
