"""What the cases of bad input share: values that are easy to find again, and the loop and its surroundings."""

import asyncio
import contextlib
import os
import socket
import ssl
import tempfile

from .support import LOCALHOST, Recorder

# Values that are easy to find again in a message.
BAD = "a bad value"
NEGATIVE = -7777
HUGE = 2**70
TOKENS = [repr(BAD), str(NEGATIVE), str(HUGE)]


def nothing(*args):
    """A callback that does nothing."""


async def coroutine_function():
    """A coroutine function, which is no callback."""


class Environment:
    """A loop, and what the cases need around it. Everything is closed at the end."""

    def __init__(self, factory, debug):
        self.stack = contextlib.ExitStack()
        self.loop = factory()
        self.stack.callback(self.loop.close)
        self.loop.set_debug(debug)
        self.errors = []
        self.loop.set_exception_handler(lambda loop, context: self.errors.append(type(context.get("exception"))))
        self.coroutines = []

    def keep(self, thing):
        self.stack.callback(thing.close)
        return thing

    def coroutine(self):
        return self.keep(coroutine_function())

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, blocking=False):
        sock = self.keep(socket.socket(family, kind))
        sock.setblocking(blocking)
        return sock

    @property
    def udp(self):
        return self.socket(kind=socket.SOCK_DGRAM)

    @property
    def blocking(self):
        return self.pair(blocking=True)[0]

    def pair(self, blocking=False):
        pair = socket.socketpair()
        for sock in pair:
            self.keep(sock).setblocking(blocking)
        return pair

    @property
    def connected(self):
        return self.pair()[0]

    @property
    def closed(self):
        sock = self.socket()
        sock.close()
        return sock

    @property
    def listener(self):
        sock = self.keep(socket.create_server((LOCALHOST, 0)))
        sock.setblocking(False)
        return sock

    @property
    def unused_port(self):
        with socket.create_server((LOCALHOST, 0)) as sock:
            return sock.getsockname()[1]

    @property
    def tls(self):
        return ssl.create_default_context()

    @property
    def tls_server(self):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    @property
    def tls_socket(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        return self.keep(context.wrap_socket(self.connected, do_handshake_on_connect=False))

    def file(self, content=b"content"):
        file = self.keep(tempfile.TemporaryFile())
        file.write(content)
        file.flush()
        return file

    @property
    def closed_file(self):
        file = self.file()
        file.close()
        return file

    def path(self, name="name"):
        return os.path.join(self.stack.enter_context(tempfile.TemporaryDirectory()), name)

    async def transport(self, protocol=Recorder):
        transport, _ = await self.loop.create_connection(protocol, sock=self.connected)
        self.stack.callback(lambda: None if self.loop.is_closed() else transport.abort())
        return transport

    async def datagrams(self, **options):
        transport, _ = await self.loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, **(options or {"local_addr": (LOCALHOST, 0)})
        )
        self.stack.callback(lambda: None if self.loop.is_closed() else transport.abort())
        return transport

    async def server(self, **options):
        server = await self.loop.create_server(Recorder, LOCALHOST, 0, **options)
        self.stack.callback(lambda: None if self.loop.is_closed() else server.close())
        return server
