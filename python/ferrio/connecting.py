"""Connecting: the options of ``create_connection`` and its like, resolving names, trying addresses (RFC 8305, "happy
eyeballs"). All of it runs in the task that asked. The transport over the connected socket is native.
"""

import itertools
import os
import socket
from asyncio import staggered

from ._ferrio import numeric_info

try:
    import ssl as _ssl
except ImportError:  # a Python built without it
    _ssl = None


async def talk(
    loop, protocol_factory, sock, ssl, server_hostname, handshake_timeout, shutdown_timeout, *, server_side=False
):
    """(transport, protocol) over a connected socket, once they have met, and with TLS shaken hands."""
    transport, protocol, done = loop._talk(
        protocol_factory, sock, ssl, server_side, server_hostname, handshake_timeout, shutdown_timeout
    )
    try:
        await done
    except BaseException:
        transport.close()
        raise
    finally:
        # Its exception holds this frame, and must not be held by it.
        del done
    return transport, protocol


def check_tls(ssl, server_hostname, handshake_timeout, shutdown_timeout):
    """:raises ValueError: for an option of TLS without TLS."""
    if server_hostname is not None and not ssl:
        raise ValueError("server_hostname is only meaningful with ssl")
    check_timeouts(ssl, handshake_timeout, shutdown_timeout)


def check_timeouts(has_tls, handshake_timeout, shutdown_timeout):
    """:raises ValueError: for a timeout of TLS without TLS."""
    if has_tls:
        return
    for name, timeout in (("ssl_handshake_timeout", handshake_timeout), ("ssl_shutdown_timeout", shutdown_timeout)):
        if timeout is not None:
            raise ValueError(f"{name} is only meaningful with ssl")


def check_plain(sock):
    """:raises TypeError: for a TLS socket, which does its own encryption, blockingly."""
    if _ssl is not None and isinstance(sock, _ssl.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")


def check_stream(sock):
    """:raises ValueError: for any socket but a stream's."""
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")


async def connect(loop, host, port, *, family, proto, flags, local_addr, happy_eyeballs_delay, interleave, all_errors):
    """A connected, non-blocking socket to the first address of (host, port) that answers.

    :raises OSError: if none does; an ExceptionGroup of all failures with ``all_errors``.
    """
    infos = await _resolve(loop, (host, port), family, proto, flags)
    if not infos:
        raise OSError("getaddrinfo() returned empty list")
    local_infos = None
    if local_addr is not None:
        local_infos = await _resolve(loop, local_addr, family, proto, flags)
        if not local_infos:
            raise OSError("getaddrinfo() returned empty list")
    if happy_eyeballs_delay is not None and interleave is None:
        interleave = 1
    if interleave:
        infos = _interleave(infos, interleave)

    failures = []
    try:
        if happy_eyeballs_delay is None:
            for info in infos:
                try:
                    return await _try(loop, info, local_infos, failures)
                except OSError:
                    continue
        else:
            attempts = [lambda info=info: _try(loop, info, local_infos, failures) for info in infos]
            connected = (await staggered.staggered_race(attempts, happy_eyeballs_delay))[0]
            if connected is not None:
                return connected
        raise _summary(failures, all_errors)
    finally:
        failures = None


async def connect_unix(loop, path, sock):
    """A connected, non-blocking Unix stream socket: ``sock`` itself, or a new one to ``path``."""
    if path is not None:
        if sock is not None:
            raise ValueError("path and sock can not be specified at the same time")
        path = os.fspath(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, path)
        except BaseException:
            sock.close()
            raise
        return sock
    if sock is None:
        raise ValueError("no path and sock were specified")
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
    sock.setblocking(False)
    return sock


async def _resolve(loop, address, family, proto, flags):
    # A numeric address needs no looking up.
    info = numeric_info(address, family, proto)
    if info is not None:
        return [info]
    host, port = address[:2]
    return await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, proto=proto, flags=flags)


async def _try(loop, info, local_infos, failures):
    """One attempt; what went wrong is also noted in ``failures``."""
    family, kind, proto, _, address = info
    mine = []
    failures.append(mine)
    sock = None
    try:
        try:
            sock = socket.socket(family=family, type=kind, proto=proto)
            sock.setblocking(False)
            if local_infos is not None:
                _bind(sock, family, local_infos, mine)
            await loop.sock_connect(sock, address)
            return sock
        except OSError as error:
            if error not in mine:
                mine.append(error)
            raise
    except BaseException:
        if sock is not None:
            sock.close()
        raise
    finally:
        # An exception holds this frame, and must not be held by it.
        failures = mine = None


def _bind(sock, family, local_infos, mine):
    for local_family, _, _, _, address in local_infos:
        if local_family != family:
            continue
        try:
            sock.bind(address)
            return
        except OSError as error:
            message = f"error while attempting to bind on address {address!r}: {error.strerror.lower()}"
            mine.append(OSError(error.errno, message))
    family = socket.AddressFamily(family)
    raise mine.pop() if mine else OSError(f"no matching local address with {family=} found")


def _interleave(infos, first):
    """Families in turn, the first family's first ``first`` addresses ahead."""
    families = {}
    for info in infos:
        families.setdefault(info[0], []).append(info)
    lists = list(families.values())
    ahead = lists[0][: first - 1] if first > 1 else []
    lists[0] = lists[0][len(ahead) :]
    mixed = itertools.chain.from_iterable(itertools.zip_longest(*lists))
    return ahead + [info for info in mixed if info is not None]


def _summary(failures, all_errors):
    errors = [error for attempt in failures for error in attempt]
    if all_errors:
        return ExceptionGroup("create_connection failed", errors)
    if not errors:
        return TimeoutError("create_connection failed")
    if len(errors) == 1 or all(str(error) == str(errors[0]) for error in errors):
        return errors[0]
    return OSError(f"Multiple exceptions: {', '.join(str(error) for error in errors)}")
