"""An aiohttp server on the loop under test, started as its documentation says."""

import asyncio
import importlib
import os
import sys

from aiohttp import web


async def loop_name(request):
    loop = type(asyncio.get_running_loop())
    return web.Response(text=f"{loop.__module__}.{loop.__qualname__}")


async def cleanup(application):
    print("cleaned up", flush=True)


application = web.Application()
application.router.add_get("/", loop_name)
application.on_cleanup.append(cleanup)
module, _, attribute = os.environ.get("FERRIO_TEST_FACTORY", "ferrio:new_event_loop").partition(":")
factory = getattr(importlib.import_module(module), attribute)
web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), loop=factory())
