"""gRPC's asyncio API, whose own threads wake the loop. Messages are plain bytes: no generated code."""

import asyncio
import contextlib
import os

import grpc
import grpc.aio
import pytest


@pytest.fixture
def service(check_loop):
    """A generic handler with one method of every kind."""

    async def unary(request, context):
        check_loop()
        return request

    async def count(request, context):
        for number in range(int(request)):
            yield str(number).encode()

    async def total(requests, context):
        return str(sum([int(request) async for request in requests])).encode()

    async def echo(requests, context):
        async for request in requests:
            yield request

    async def never(request, context):
        await asyncio.Future()

    async def refuse(request, context):
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")

    return grpc.method_handlers_generic_handler(
        "Test",
        {
            "unary": grpc.unary_unary_rpc_method_handler(unary),
            "count": grpc.unary_stream_rpc_method_handler(count),
            "total": grpc.stream_unary_rpc_method_handler(total),
            "echo": grpc.stream_stream_rpc_method_handler(echo),
            "never": grpc.unary_unary_rpc_method_handler(never),
            "refuse": grpc.unary_unary_rpc_method_handler(refuse),
        },
    )


@pytest.fixture(params=["plain", "TLS"])
def exchange(request, run, service, certificates):
    """Runs `client(channel)` against the served handler."""

    def read(path):
        with open(path, "rb") as file:
            return file.read()

    @contextlib.asynccontextmanager
    async def serving():
        server = grpc.aio.server(handlers=[service])
        if request.param == "TLS":
            pair = (read(certificates.key), read(certificates.chain))
            port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
            channel = grpc.aio.secure_channel(
                f"localhost:{port}", grpc.ssl_channel_credentials(read(certificates.authority))
            )
        else:
            port = server.add_insecure_port("localhost:0")
            channel = grpc.aio.insecure_channel(f"localhost:{port}")
        await server.start()
        async with channel:
            yield channel
        await server.stop(grace=None)

    def exchange(client):
        async def main():
            async with serving() as channel:
                await client(channel)

        run(main())

    return exchange


def test_every_kind_of_call(exchange):
    async def client(channel):
        body = os.urandom(1_000_000)
        assert await channel.unary_unary("/Test/unary")(body) == body
        assert [int(item) async for item in channel.unary_stream("/Test/count")(b"100")] == list(range(100))
        assert await channel.stream_unary("/Test/total")(str(number).encode() for number in range(100)) == b"4950"
        call = channel.stream_stream("/Test/echo")()
        for number in range(100):
            await call.write(str(number).encode())
            assert await call.read() == str(number).encode()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF

    exchange(client)


def test_many_calls_at_once(exchange):
    async def client(channel):
        unary = channel.unary_unary("/Test/unary")
        requests = [str(number).encode() for number in range(500)]
        assert await asyncio.gather(*map(unary, requests)) == requests

    exchange(client)


def test_deadline_cancellation_and_refusal(exchange):
    async def client(channel):
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await channel.unary_unary("/Test/never")(b"", timeout=0.2)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

        call = channel.unary_unary("/Test/never")(b"")
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/Test/refuse")(b"")
        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.PERMISSION_DENIED, "not you")

    exchange(client)
