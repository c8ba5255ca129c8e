"""The ASGI application that the server tests serve.

Paths:
    /loop    the class of the running loop
    /pid     the process that answers
    /echo    the request's body
    /count   numbers, streamed in pieces: ?n=pieces
    /slow    an answer that takes a second
    a WebSocket at any path sends its loop, then echoes until "bye"
"""

import asyncio
import os


async def app(scope, receive, send):
    await {"http": http, "websocket": websocket, "lifespan": lifespan}[scope["type"]](scope, receive, send)


def loop_name():
    loop = type(asyncio.get_running_loop())
    return f"{loop.__module__}.{loop.__qualname__}"


async def http(scope, receive, send):
    async def answer(body, status=200):
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})

    match scope["path"]:
        case "/loop":
            await answer(loop_name().encode())
        case "/pid":
            await answer(str(os.getpid()).encode())
        case "/echo":
            body, more = b"", True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            await answer(body)
        case "/count":
            pieces = int(scope["query_string"].partition(b"=")[2])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for number in range(pieces):
                await send({"type": "http.response.body", "body": b"%08d" % number * 512, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        case "/slow":
            print("slow: started", flush=True)
            await asyncio.sleep(1)
            await answer(b"worth waiting for")
        case path:
            await answer(f"nothing at {path}".encode(), 404)


async def websocket(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": loop_name()})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "bye":
            await send({"type": "websocket.close", "code": 4000})
            return
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})


async def lifespan(scope, receive, send):
    assert (await receive())["type"] == "lifespan.startup"
    print(f"lifespan: startup on {loop_name()}", flush=True)
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    print("lifespan: shutdown", flush=True)
    await send({"type": "lifespan.shutdown.complete"})
