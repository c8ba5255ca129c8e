"""A small ASGI application that says on which event loop it runs.

Serve it with:
    uvicorn hello:app --loop ferrio:new_event_loop
"""

import asyncio


async def app(scope, receive, send):
    assert scope["type"] == "http"
    loop = type(asyncio.get_running_loop())
    body = f"Hello from {loop.__module__}.{loop.__qualname__}\n".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
