import asyncio
import socket


async def main():
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    loop = asyncio.get_running_loop()
    loop.call_later(1, theirs.send, b"one ")
    loop.call_later(2, theirs.send, b"two")
    loop.call_later(3, theirs.close)
    print(await reader.read())
    writer.close()


asyncio.run(main())
