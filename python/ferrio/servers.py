"""Servers: binding, listening, closing and waiting. Accepting connections is native (``ferrio._ferrio.ServerCore``)."""

import asyncio
import errno
import itertools
import os
import socket
import stat
import sys
from asyncio import base_events, trsock
from collections.abc import Iterable

from ._ferrio import ServerCore
from ._helpers import logger
from .connecting import check_plain, check_stream, check_timeouts

#: Before 3.12.1 ``wait_closed()`` returned at once if the server was closed, connections or not.
_WAITS_FOR_CONNECTIONS = sys.version_info >= (3, 12, 1)


class Server(ServerCore, asyncio.AbstractServer):
    """What ``loop.create_server()`` returns: the listening sockets and the connections accepted through them."""

    def __new__(cls, loop, sockets, protocol_factory, tls_options, backlog, unlink=None):
        return super().__new__(cls, loop, protocol_factory, backlog, tls_options)

    def __init__(self, loop, sockets, protocol_factory, tls_options, backlog, unlink=None):
        self._loop = loop
        self._sockets = list(sockets)
        self._backlog = backlog
        self._ssl_context = tls_options and tls_options[0]
        self._unlink = unlink
        self._serving = False
        self._forever = None
        #: Futures of wait_closed(); None once the server and its last connection are closed.
        self._waiters = []

    def __repr__(self):
        return f"<{type(self).__name__} sockets={self.sockets!r}>"

    def get_loop(self):
        return self._loop

    def is_serving(self):
        """Whether new connections are accepted."""
        return self._serving

    @property
    def sockets(self):
        """The listening sockets; empty once the server is closed."""
        return tuple(trsock.TransportSocket(sock) for sock in self._sockets or ())

    async def start_serving(self):
        """Begin to accept connections; nothing happens if the server does already."""
        if self._sockets is None:
            # The type is the one that asyncio raises, if by accident.
            raise TypeError(f"server {self!r} is closed")
        self._start_serving()
        # Whoever awaits this may rely on connections being accepted afterwards: one turn arms the sockets.
        await asyncio.sleep(0)

    def _start_serving(self):
        if self._serving or self._sockets is None:
            return
        self._serving = True
        for sock in self._sockets:
            sock.listen(self._backlog)
            self._start_accepting(sock)

    async def serve_forever(self):
        """Accept connections until cancelled; then the server is closed."""
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._start_serving()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            try:
                self.close()
                if sys.version_info >= (3, 13):
                    self.close_clients()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._forever = None

    def close(self):
        """Stop listening; connections go on. The sockets are closed when this returns."""
        sockets, self._sockets = self._sockets, None
        if sockets is None:
            return
        for sock in sockets:
            self._stop_accepting(sock.fileno())
            sock.close()
        self._serving = False
        if self._unlink is not None:
            self._unlink()
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
            self._forever = None
        if self._active_count == 0:
            self._wake_up()

    def close_clients(self):
        """Close every connection that was accepted, after what is queued has left."""
        for transport in self._connections():
            transport.close()

    def abort_clients(self):
        """Close every connection that was accepted, at once."""
        for transport in self._connections():
            transport.abort()

    async def wait_closed(self):
        """Wait until close() was called and the last connection has ended."""
        if self._waiters is None or (self._sockets is None and not _WAITS_FOR_CONNECTIONS):
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _all_connections_ended(self):
        if self._sockets is None:
            self._wake_up()

    def _wake_up(self):
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)


async def create_server(
    loop,
    protocol_factory,
    host,
    port,
    *,
    family,
    flags,
    sock,
    backlog,
    ssl,
    reuse_address,
    reuse_port,
    keep_alive,
    ssl_handshake_timeout,
    ssl_shutdown_timeout,
    start_serving,
):
    tls_options = _tls_options(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    if sock is not None:
        check_plain(sock)
    if host is not None or port is not None:
        if sock is not None:
            raise ValueError("host/port and sock can not be specified at the same time")
        if reuse_address is None:
            reuse_address = os.name == "posix" and sys.platform != "cygwin"
        if host == "":
            hosts = [None]
        elif isinstance(host, str) or not isinstance(host, Iterable):
            hosts = [host]
        else:
            hosts = host
        resolved = await asyncio.gather(*[_resolve(loop, host, port, family, flags) for host in hosts])
        infos = set(itertools.chain.from_iterable(resolved))
        sockets = _bind_all(infos, hosts, reuse_address, reuse_port, keep_alive)
    else:
        if sock is None:
            raise ValueError("Neither host/port nor sock were specified")
        check_stream(sock)
        sockets = [sock]
    return await _serve(Server(loop, sockets, protocol_factory, tls_options, backlog), start_serving)


async def create_unix_server(
    loop,
    protocol_factory,
    path,
    *,
    sock,
    backlog,
    ssl,
    ssl_handshake_timeout,
    ssl_shutdown_timeout,
    start_serving,
    cleanup_socket,
):
    if isinstance(ssl, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    tls_options = _tls_options(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    if path is not None:
        if sock is not None:
            raise ValueError("path and sock can not be specified at the same time")
        path = os.fspath(path)
        sock = _bind_unix(path)
    else:
        if sock is None:
            raise ValueError("path was not specified, and no sock specified")
        if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
    unlink = None
    if cleanup_socket:
        path = sock.getsockname()
        if not (path and path[0] not in (0, "\x00")):
            path = None
        unlink = _unlinker(path) if path else None
    return await _serve(Server(loop, [sock], protocol_factory, tls_options, backlog, unlink), start_serving)


async def _serve(server, start_serving):
    for sock in server._sockets:
        sock.setblocking(False)
    if start_serving:
        await server.start_serving()
    if server._loop.get_debug():
        logger.info("%r is serving", server)
    return server


def _tls_options(context, handshake_timeout, shutdown_timeout):
    """What connections are encrypted with, or None."""
    if isinstance(context, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    check_timeouts(context is not None, handshake_timeout, shutdown_timeout)
    return None if context is None else (context, handshake_timeout, shutdown_timeout)


async def _resolve(loop, host, port, family, flags):
    info = base_events._ipaddr_info(host, port, family, socket.SOCK_STREAM, 0)
    if info is not None:
        return [info]
    infos = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, proto=0, flags=flags)
    if not infos:
        raise OSError(f"getaddrinfo({host!r}) returned empty list")
    return infos


def _bind_all(infos, hosts, reuse_address, reuse_port, keep_alive):
    """A bound socket per address; addresses of families that this machine lacks are left out."""
    sockets = []
    try:
        for family, kind, proto, _, address in infos:
            try:
                sock = socket.socket(family, kind, proto)
            except OSError:
                logger.warning("create_server() failed to create socket.socket(%r, %r, %r)", family, kind, proto)
                continue
            sockets.append(sock)
            if reuse_address:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
            if reuse_port and family in (socket.AF_INET, socket.AF_INET6):
                _set_reuse_port(sock)
            if keep_alive:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
            if family == getattr(socket, "AF_INET6", None) and hasattr(socket, "IPPROTO_IPV6"):
                # "::" beside "0.0.0.0": without this the first would take both.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
            try:
                sock.bind(address)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and sys.version_info >= (3, 12):
                    sockets.pop().close()
                    logger.warning("error while attempting to bind on address %r: %s", address, error.strerror.lower())
                    continue
                reason = error.strerror.lower() if error.strerror else error
                raise OSError(error.errno, f"error while attempting to bind on address {address!r}: {reason}") from None
        # (A server without hosts listens nowhere; from 3.13 on that is an error.)
        if not sockets and (infos or sys.version_info >= (3, 13)):
            raise OSError(f"could not bind on any address out of {[info[4] for info in infos]!r}")
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _set_reuse_port(sock):
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port not supported by socket module")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        raise ValueError(
            "reuse_port not supported by socket module, SO_REUSEPORT defined but not implemented."
        ) from None


def _bind_unix(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path[0] not in (0, "\x00"):
            # A socket that a former server left behind is in the way.
            try:
                if stat.S_ISSOCK(os.stat(path).st_mode):
                    os.remove(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                logger.error("Unable to check or remove stale UNIX socket %r: %r", path, error)
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise OSError(errno.EADDRINUSE, f"Address {path!r} is already in use") from None
            raise
    except BaseException:
        sock.close()
        raise
    return sock


def _unlinker(path):
    """Removes the socket's file, if it is still the one that was bound."""
    try:
        inode = os.stat(path).st_ino
    except FileNotFoundError:
        return None

    def unlink():
        try:
            if os.stat(path).st_ino == inode:
                os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.error("Unable to clean up listening UNIX socket %r: %r", path, error)

    return unlink
