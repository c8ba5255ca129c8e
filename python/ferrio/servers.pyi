from asyncio import AbstractServer
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Iterable
from socket import socket
from typing import Any

from .event_loop import EventLoop

class Server(AbstractServer):
    def __new__(
        cls,
        loop: EventLoop,
        sockets: Iterable[socket],
        protocol_factory: Callable[[], Any],
        tls_wrapper: Callable[[Any], Any] | None,
        backlog: int,
        unlink: Callable[[], object] | None = None,
    ) -> Server: ...
    def __init__(
        self,
        loop: EventLoop,
        sockets: Iterable[socket],
        protocol_factory: Callable[[], Any],
        tls_wrapper: Callable[[Any], Any] | None,
        backlog: int,
        unlink: Callable[[], object] | None = None,
    ) -> None: ...
    def get_loop(self) -> EventLoop: ...
    def is_serving(self) -> bool: ...
    @property
    def sockets(self) -> tuple[TransportSocket, ...]: ...
    async def start_serving(self) -> None: ...
    async def serve_forever(self) -> None: ...
    def close(self) -> None: ...
    def close_clients(self) -> None: ...
    def abort_clients(self) -> None: ...
    async def wait_closed(self) -> None: ...
