from asyncio import (
    AbstractEventLoop,
    BaseProtocol,
    DatagramProtocol,
    DatagramTransport,
    Future,
    Handle,
    ReadTransport,
    SubprocessTransport,
    Task,
    TimerHandle,
    Transport,
    WriteTransport,
)
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import Context
from os import PathLike
from socket import AddressFamily, AddressInfo, SocketKind, socket
from ssl import SSLContext
from typing import IO, Any, Literal, Protocol, TypeAlias, TypeVar, TypeVarTuple, overload

from typing_extensions import Buffer

from .servers import Server

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_P = TypeVar("_P", bound=BaseProtocol)
_DP = TypeVar("_DP", bound=DatagramProtocol)

class _HasFileno(Protocol):
    def fileno(self) -> int: ...

class _TaskFactory(Protocol):
    def __call__(self, loop: AbstractEventLoop, coro: Coroutine[Any, Any, Any], /) -> Future[Any]: ...

_Descriptor: TypeAlias = int | _HasFileno
_Address: TypeAlias = tuple[Any, ...] | str | Buffer | int
_AddressInfo: TypeAlias = tuple[
    AddressFamily, SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
]
_ExceptionHandler: TypeAlias = Callable[[AbstractEventLoop, dict[str, Any]], object]
_Command: TypeAlias = str | bytes | PathLike[str] | PathLike[bytes]

class EventLoop(AbstractEventLoop):
    slow_callback_duration: float
    spin: float
    def __init__(self, *, clock: Literal["real", "virtual"] = "real", spin: float = 0.0) -> None: ...
    def __del__(self) -> None: ...

    # Running
    def run_forever(self) -> None: ...
    def run_until_complete(self, future: Generator[Any, None, _T] | Awaitable[_T]) -> _T: ...
    def stop(self) -> None: ...
    def is_running(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def close(self) -> None: ...
    async def shutdown_asyncgens(self) -> None: ...
    async def shutdown_default_executor(self, timeout: float | None = None) -> None: ...

    # Scheduling
    def call_soon(self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None) -> Handle: ...
    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> Handle: ...
    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> TimerHandle: ...
    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> TimerHandle: ...
    def time(self) -> float: ...

    # Futures and tasks
    def create_future(self) -> Future[Any]: ...
    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: object = None,
        context: Context | None = None,
        eager_start: bool | None = None,
        **kwargs: Any,
    ) -> Task[_T]: ...
    def set_task_factory(self, factory: _TaskFactory | None) -> None: ...  # type: ignore[override]
    def get_task_factory(self) -> _TaskFactory | None: ...  # type: ignore[override]

    # Threads
    def run_in_executor(self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts) -> Future[_T]: ...
    def set_default_executor(self, executor: ThreadPoolExecutor) -> None: ...  # type: ignore[override]

    # Descriptors
    def add_reader(self, fd: _Descriptor, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None: ...
    def remove_reader(self, fd: _Descriptor) -> bool: ...
    def add_writer(self, fd: _Descriptor, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None: ...
    def remove_writer(self, fd: _Descriptor) -> bool: ...

    # Sockets
    async def sock_recv(self, sock: socket, n: int) -> bytes: ...  # type: ignore[override]
    async def sock_recv_into(self, sock: socket, buf: Buffer) -> int: ...
    async def sock_recvfrom(self, sock: socket, bufsize: int) -> tuple[bytes, Any]: ...
    async def sock_recvfrom_into(self, sock: socket, buf: Buffer, nbytes: int = 0) -> tuple[int, Any]: ...
    async def sock_sendall(self, sock: socket, data: Buffer) -> None: ...
    async def sock_sendto(self, sock: socket, data: Buffer, address: _Address) -> int: ...
    async def sock_connect(self, sock: socket, address: _Address) -> None: ...
    async def sock_accept(self, sock: socket) -> tuple[socket, Any]: ...
    async def sock_sendfile(
        self, sock: socket, file: IO[bytes], offset: int = 0, count: int | None = None, *, fallback: bool | None = True
    ) -> int: ...

    # Names
    async def getaddrinfo(  # type: ignore[override]
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[_AddressInfo]: ...
    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int] | tuple[str, int, int, int], flags: int = 0
    ) -> tuple[str, str]: ...

    # Connections
    @overload
    async def create_connection(
        self,
        protocol_factory: Callable[[], _P],
        host: str = ...,
        port: int = ...,
        *,
        ssl: bool | SSLContext | None = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: None = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[Transport, _P]: ...
    @overload
    async def create_connection(
        self,
        protocol_factory: Callable[[], _P],
        host: None = None,
        port: None = None,
        *,
        ssl: bool | SSLContext | None = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: socket,
        local_addr: None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[Transport, _P]: ...
    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], _P],
        path: str | bytes | PathLike[str] | None = None,
        *,
        ssl: bool | SSLContext | None = None,
        sock: socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[Transport, _P]: ...
    async def connect_accepted_socket(
        self,
        protocol_factory: Callable[[], _P],
        sock: socket,
        *,
        ssl: bool | SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[Transport, _P]: ...
    async def start_tls(
        self,
        transport: WriteTransport,
        protocol: BaseProtocol,
        sslcontext: SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Transport | None: ...
    async def sendfile(
        self,
        transport: WriteTransport,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int: ...

    # Servers (ferrio's own class, where asyncio's stubs promise asyncio's)
    @overload  # type: ignore[override]
    async def create_server(
        self,
        protocol_factory: Callable[[], BaseProtocol],
        host: str | Sequence[str] | None = None,
        port: int | None = None,
        *,
        family: int = AddressFamily.AF_UNSPEC,
        flags: int = AddressInfo.AI_PASSIVE,
        sock: None = None,
        backlog: int = 100,
        ssl: bool | SSLContext | None = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Server: ...
    @overload
    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], BaseProtocol],
        host: None = None,
        port: None = None,
        *,
        family: int = AddressFamily.AF_UNSPEC,
        flags: int = AddressInfo.AI_PASSIVE,
        sock: socket,
        backlog: int = 100,
        ssl: bool | SSLContext | None = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Server: ...
    async def create_unix_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], BaseProtocol],
        path: str | PathLike[str] | None = None,
        *,
        sock: socket | None = None,
        backlog: int = 100,
        ssl: bool | SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = ...,
    ) -> Server: ...

    # Datagrams and pipes
    async def create_datagram_endpoint(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], _DP],
        local_addr: tuple[str, int] | str | None = None,
        remote_addr: tuple[str, int] | str | None = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket | None = None,
    ) -> tuple[DatagramTransport, _DP]: ...
    async def connect_read_pipe(self, protocol_factory: Callable[[], _P], pipe: Any) -> tuple[ReadTransport, _P]: ...
    async def connect_write_pipe(self, protocol_factory: Callable[[], _P], pipe: Any) -> tuple[WriteTransport, _P]: ...

    # Processes
    async def subprocess_exec(
        self,
        protocol_factory: Callable[[], _P],
        program: _Command,
        *args: _Command,
        stdin: int | IO[Any] | None = -1,
        stdout: int | IO[Any] | None = -1,
        stderr: int | IO[Any] | None = -1,
        **kwargs: Any,
    ) -> tuple[SubprocessTransport, _P]: ...
    async def subprocess_shell(
        self,
        protocol_factory: Callable[[], _P],
        cmd: str | bytes,
        *,
        stdin: int | IO[Any] | None = -1,
        stdout: int | IO[Any] | None = -1,
        stderr: int | IO[Any] | None = -1,
        **kwargs: Any,
    ) -> tuple[SubprocessTransport, _P]: ...

    # Signals
    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None: ...
    def remove_signal_handler(self, sig: int) -> bool: ...

    # Errors and debug mode
    def get_exception_handler(self) -> _ExceptionHandler | None: ...
    def set_exception_handler(self, handler: _ExceptionHandler | None) -> None: ...
    def default_exception_handler(self, context: dict[str, Any]) -> None: ...
    def call_exception_handler(self, context: dict[str, Any]) -> None: ...
    def get_debug(self) -> bool: ...
    def set_debug(self, enabled: bool) -> None: ...

def new_event_loop() -> EventLoop: ...
