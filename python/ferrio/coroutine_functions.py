"""``coroutine_function``: a native method that is awaited, as the coroutine function that it is in asyncio.

``inspect.iscoroutinefunction()`` holds, and what a call returns is a coroutine: ``unittest.mock`` puts an ``AsyncMock`` into the
place of such a function only, and tools look at a coroutine's frame. Nothing begins before the await.
"""

import functools


def coroutine_function(native):
    @functools.wraps(native)
    async def method(self, /, *args, **kwargs):
        return await native(self, *args, **kwargs)

    method.__code__ = method.__code__.replace(co_name=native.__name__)
    method.__qualname__ = f"EventLoop.{native.__name__}"
    return method
