import asyncio


def ring(event):
    print("ring")
    event.set()


async def main():
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.call_later(1, ring, event)
    loop.call_soon(print, "soon")
    await event.wait()


asyncio.run(main())
