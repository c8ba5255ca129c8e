"""Bad input to sockets, connections, servers, datagrams, transports, pipes and processes."""

import asyncio
import inspect
import io
import socket

from .bad_input import BAD, HUGE, NEGATIVE, nothing
from .support import LOCALHOST, Recorder, turns


def with_transport(act):
    async def case(e):
        result = act(await e.transport())
        return await result if inspect.isawaitable(result) else result

    return case


def with_datagrams(act, **options):
    async def case(e):
        return act(await e.datagrams(**options))

    return case


class BadProtocolFactory:
    def __call__(self):
        raise ZeroDivisionError("on purpose")


SOCKETS = {
    "sock_recv of None": lambda e: e.loop.sock_recv(None, 10),
    "sock_recv of a number": lambda e: e.loop.sock_recv(5, 10),
    "sock_recv without a size": lambda e: e.loop.sock_recv(e.connected),
    "sock_recv of a negative size": lambda e: e.loop.sock_recv(e.connected, NEGATIVE),
    "sock_recv of a string as size": lambda e: e.loop.sock_recv(e.connected, BAD),
    "sock_recv of a float as size": lambda e: e.loop.sock_recv(e.connected, 1.5),
    "sock_recv of None as size": lambda e: e.loop.sock_recv(e.connected, None),
    "sock_recv of a huge size": lambda e: e.loop.sock_recv(e.connected, HUGE),
    "sock_recv of a closed socket": lambda e: e.loop.sock_recv(e.closed, 10),
    "sock_recv of an unconnected socket": lambda e: e.loop.sock_recv(e.socket(), 10),
    "sock_recv of a blocking socket": lambda e: e.loop.sock_recv(
        (s := e.pair(blocking=True))[0], (s[1].send(b"x"), 1)[1]
    ),
    "sock_recv of a TLS socket": lambda e: e.loop.sock_recv(e.tls_socket, 10),
    "sock_recv_into of bytes": lambda e: e.loop.sock_recv_into(e.connected, b"immutable"),
    "sock_recv_into of None": lambda e: e.loop.sock_recv_into(e.connected, None),
    "sock_recv_into of a number": lambda e: e.loop.sock_recv_into(e.connected, 5),
    "sock_recv_into of a closed socket": lambda e: e.loop.sock_recv_into(e.closed, bytearray(5)),
    "sock_recv_into of a TLS socket": lambda e: e.loop.sock_recv_into(e.tls_socket, bytearray(5)),
    "sock_recvfrom of a negative size": lambda e: e.loop.sock_recvfrom(e.udp, NEGATIVE),
    "sock_recvfrom of a string as size": lambda e: e.loop.sock_recvfrom(e.udp, BAD),
    "sock_recvfrom of a closed socket": lambda e: e.loop.sock_recvfrom(e.closed, 10),
    "sock_recvfrom of a TLS socket": lambda e: e.loop.sock_recvfrom(e.tls_socket, 10),
    "sock_recvfrom_into of bytes": lambda e: e.loop.sock_recvfrom_into(e.udp, b"immutable"),
    "sock_recvfrom_into of a negative size": lambda e: e.loop.sock_recvfrom_into(e.udp, bytearray(5), NEGATIVE),
    "sock_recvfrom_into of more than the buffer holds": lambda e: e.loop.sock_recvfrom_into(e.udp, bytearray(5), 6),
    "sock_recvfrom_into of a string as size": lambda e: e.loop.sock_recvfrom_into(e.udp, bytearray(5), BAD),
    "sock_recvfrom_into of None": lambda e: e.loop.sock_recvfrom_into(e.udp, None),
    "sock_sendall of a string": lambda e: e.loop.sock_sendall(e.connected, BAD),
    "sock_sendall of None": lambda e: e.loop.sock_sendall(e.connected, None),
    "sock_sendall of a number": lambda e: e.loop.sock_sendall(e.connected, 5),
    "sock_sendall of nothing": lambda e: e.loop.sock_sendall(e.connected, b""),
    "sock_sendall to a closed socket": lambda e: e.loop.sock_sendall(e.closed, b"x"),
    "sock_sendall to an unconnected socket": lambda e: e.loop.sock_sendall(e.socket(), b"x"),
    "sock_sendall to a TLS socket": lambda e: e.loop.sock_sendall(e.tls_socket, b"x"),
    "sock_sendall to a blocking socket": lambda e: e.loop.sock_sendall(e.blocking, b"x"),
    "sock_sendto of a string": lambda e: e.loop.sock_sendto(e.udp, BAD, (LOCALHOST, 9)),
    "sock_sendto without an address": lambda e: e.loop.sock_sendto(e.udp, b"x"),
    "sock_sendto None": lambda e: e.loop.sock_sendto(e.udp, b"x", None),
    "sock_sendto a string": lambda e: e.loop.sock_sendto(e.udp, b"x", BAD),
    "sock_sendto a host alone": lambda e: e.loop.sock_sendto(e.udp, b"x", (LOCALHOST,)),
    "sock_sendto a port that is a string": lambda e: e.loop.sock_sendto(e.udp, b"x", (LOCALHOST, BAD)),
    "sock_sendto a port too big": lambda e: e.loop.sock_sendto(e.udp, b"x", (LOCALHOST, 70_000)),
    "sock_sendto more than a datagram holds": lambda e: e.loop.sock_sendto(e.udp, bytes(70_000), (LOCALHOST, 9)),
    "sock_sendto of a closed socket": lambda e: e.loop.sock_sendto(e.closed, b"x", (LOCALHOST, 9)),
    "sock_sendto a TLS socket": lambda e: e.loop.sock_sendto(e.tls_socket, b"x", (LOCALHOST, 9)),
    "sock_connect to a string": lambda e: e.loop.sock_connect(e.socket(), BAD),
    "sock_connect to None": lambda e: e.loop.sock_connect(e.socket(), None),
    "sock_connect to a host alone": lambda e: e.loop.sock_connect(e.socket(), (LOCALHOST,)),
    "sock_connect to a port too big": lambda e: e.loop.sock_connect(e.socket(), (LOCALHOST, 70_000)),
    "sock_connect to a port that is a string": lambda e: e.loop.sock_connect(e.socket(), (LOCALHOST, BAD)),
    "sock_connect of a closed socket": lambda e: e.loop.sock_connect(e.closed, (LOCALHOST, 9)),
    "sock_connect of a connected Unix socket": lambda e: e.loop.sock_connect(e.connected, "/no/such/path"),
    "sock_connect where nobody listens": lambda e: e.loop.sock_connect(e.socket(), (LOCALHOST, e.unused_port)),
    "sock_connect of a TLS socket": lambda e: e.loop.sock_connect(e.tls_socket, (LOCALHOST, 9)),
    "sock_connect of a blocking socket": lambda e: e.loop.sock_connect(
        e.socket(blocking=True), (LOCALHOST, e.unused_port)
    ),
    "sock_connect to no such Unix socket": lambda e: e.loop.sock_connect(e.socket(socket.AF_UNIX), "/no/such/path"),
    "sock_accept of a socket that does not listen": lambda e: e.loop.sock_accept(e.socket()),
    "sock_accept of a closed socket": lambda e: e.loop.sock_accept(e.closed),
    "sock_accept of a TLS socket": lambda e: e.loop.sock_accept(e.tls_socket),
    "sock_accept of None": lambda e: e.loop.sock_accept(None),
}


async def on_a_transports_socket(e, method, *arguments):
    sock = e.connected
    transport, _ = await e.loop.create_connection(Recorder, sock=sock)
    try:
        await getattr(e.loop, method)(sock, *arguments)
    finally:
        transport.abort()


SOCKETS["sock_recv of a transport's socket"] = lambda e: on_a_transports_socket(e, "sock_recv", 10)


async def blocking_in_debug(e, method, *arguments):
    """Only in debug mode do blocking sockets raise, and only there is it safe to try."""
    e.loop.set_debug(True)
    await getattr(e.loop, method)(e.blocking, *arguments)


for method, *arguments in (
    ("sock_recv", 10),
    ("sock_recv_into", bytearray(5)),
    ("sock_recvfrom", 10),
    ("sock_recvfrom_into", bytearray(5)),
    ("sock_sendall", b"x"),
    ("sock_sendto", b"x", (LOCALHOST, 9)),
    ("sock_connect", (LOCALHOST, 9)),
    ("sock_accept",),
):
    SOCKETS[f"{method} of a blocking socket in debug mode"] = lambda e, m=method, a=arguments: blocking_in_debug(
        e, m, *a
    )

CONNECTIONS = {
    "create_connection to nothing": lambda e: e.loop.create_connection(Recorder),
    "create_connection without a factory": lambda e: e.loop.create_connection(),
    "create_connection to a host and a socket": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, 9, sock=e.connected
    ),
    "create_connection over a datagram socket": lambda e: e.loop.create_connection(Recorder, sock=e.udp),
    "create_connection over a closed socket": lambda e: e.loop.create_connection(Recorder, sock=e.closed),
    "create_connection over a string": lambda e: e.loop.create_connection(Recorder, sock=BAD),
    "create_connection over a TLS socket": lambda e: e.loop.create_connection(Recorder, sock=e.tls_socket),
    "create_connection with a factory that is none": lambda e: e.loop.create_connection(BAD, sock=e.connected),
    "create_connection with a factory that fails": lambda e: e.loop.create_connection(
        BadProtocolFactory(), sock=e.connected
    ),
    "create_connection with a factory that returns None": lambda e: e.loop.create_connection(nothing, sock=e.connected),
    "create_connection with a string for ssl": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, e.listener.getsockname()[1], ssl=BAD
    ),
    "create_connection with a server_hostname and no ssl": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, 9, server_hostname="x"
    ),
    "create_connection with ssl, a socket and no server_hostname": lambda e: e.loop.create_connection(
        Recorder, sock=e.connected, ssl=e.tls
    ),
    "create_connection with a handshake timeout and no ssl": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, 9, ssl_handshake_timeout=1
    ),
    "create_connection with a shutdown timeout and no ssl": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, 9, ssl_shutdown_timeout=1
    ),
    "create_connection with a handshake timeout of zero": lambda e: e.loop.create_connection(
        Recorder, sock=e.connected, ssl=e.tls, server_hostname="x", ssl_handshake_timeout=0
    ),
    "create_connection with a negative handshake timeout": lambda e: e.loop.create_connection(
        Recorder, sock=e.connected, ssl=e.tls, server_hostname="x", ssl_handshake_timeout=NEGATIVE
    ),
    "create_connection with a negative shutdown timeout": lambda e: e.loop.create_connection(
        Recorder, sock=e.connected, ssl=e.tls, server_hostname="x", ssl_shutdown_timeout=NEGATIVE
    ),
    "create_connection where nobody listens": lambda e: e.loop.create_connection(Recorder, LOCALHOST, e.unused_port),
    "create_connection to a port too big": lambda e: e.loop.create_connection(Recorder, LOCALHOST, 70_000),
    "create_connection to a negative port": lambda e: e.loop.create_connection(Recorder, LOCALHOST, NEGATIVE),
    "create_connection to a port that is a word": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, "nosuchservice"
    ),
    "create_connection to a family that is none": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, 9, family=12345
    ),
    "create_connection from a local address that is none": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, 9, local_addr=BAD
    ),
    "create_connection from somewhere else": lambda e: e.loop.create_connection(
        Recorder, LOCALHOST, 9, local_addr=("192.0.2.1", 0)
    ),
    "create_connection with an unknown keyword": lambda e: e.loop.create_connection(Recorder, LOCALHOST, 9, unknown=1),
    "create_connection to a host with a NUL": lambda e: e.loop.create_connection(Recorder, "a\0b", 9),
    "create_connection to a host too long for IDNA": lambda e: e.loop.create_connection(Recorder, "ä" * 300, 9),
    "connect_accepted_socket of a datagram socket": lambda e: e.loop.connect_accepted_socket(Recorder, e.udp),
    "connect_accepted_socket of None": lambda e: e.loop.connect_accepted_socket(Recorder, None),
    "connect_accepted_socket with a string for ssl": lambda e: e.loop.connect_accepted_socket(
        Recorder, e.connected, ssl=BAD
    ),
    "connect_accepted_socket with a handshake timeout and no ssl": lambda e: e.loop.connect_accepted_socket(
        Recorder, e.connected, ssl_handshake_timeout=1
    ),
    "connect_accepted_socket with a shutdown timeout and no ssl": lambda e: e.loop.connect_accepted_socket(
        Recorder, e.connected, ssl_shutdown_timeout=1
    ),
    "create_unix_connection to nothing": lambda e: e.loop.create_unix_connection(Recorder),
    "create_unix_connection to a path and a socket": lambda e: e.loop.create_unix_connection(
        Recorder, "/x", sock=e.connected
    ),
    "create_unix_connection to no such path": lambda e: e.loop.create_unix_connection(Recorder, "/no/such/path"),
    "create_unix_connection to a path too long": lambda e: e.loop.create_unix_connection(Recorder, "x" * 300),
    "create_unix_connection to a number": lambda e: e.loop.create_unix_connection(Recorder, 5),
    "create_unix_connection over an Internet socket": lambda e: e.loop.create_unix_connection(
        Recorder, sock=e.socket()
    ),
    "create_unix_connection over a datagram socket": lambda e: e.loop.create_unix_connection(
        Recorder, sock=e.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ),
    "create_unix_connection with ssl and no server_hostname": lambda e: e.loop.create_unix_connection(
        Recorder, "/x", ssl=e.tls
    ),
    "create_unix_connection with a server_hostname and no ssl": lambda e: e.loop.create_unix_connection(
        Recorder, "/x", server_hostname="x"
    ),
    "create_unix_connection with a handshake timeout and no ssl": lambda e: e.loop.create_unix_connection(
        Recorder, "/x", ssl_handshake_timeout=1
    ),
    "start_tls of None": lambda e: e.loop.start_tls(None, Recorder(), e.tls),
    "start_tls with a context that is none": lambda e: e.loop.start_tls(None, Recorder(), BAD),
    "start_tls without a context": lambda e: e.loop.start_tls(None, Recorder()),
}


async def closed_server(e, act):
    server = await e.server()
    server.close()
    await turns(2)
    result = getattr(server, act)()
    return await result if inspect.isawaitable(result) else result


async def serve_forever_twice(e):
    server = await e.server()
    first = asyncio.ensure_future(server.serve_forever())
    await turns(2)
    try:
        await server.serve_forever()
    finally:
        first.cancel()
        await asyncio.wait([first])


SERVERS = {
    "create_server nowhere": lambda e: e.loop.create_server(Recorder),
    "create_server without a factory": lambda e: e.loop.create_server(),
    "create_server on a host and a socket": lambda e: e.loop.create_server(Recorder, LOCALHOST, 0, sock=e.listener),
    "create_server on a datagram socket": lambda e: e.loop.create_server(Recorder, sock=e.udp),
    "create_server on a string": lambda e: e.loop.create_server(Recorder, sock=BAD),
    "create_server with ssl=True": lambda e: e.loop.create_server(Recorder, LOCALHOST, 0, ssl=True),
    "create_server with a string for ssl": lambda e: e.loop.create_server(Recorder, LOCALHOST, 0, ssl=BAD),
    "create_server with a handshake timeout and no ssl": lambda e: e.loop.create_server(
        Recorder, LOCALHOST, 0, ssl_handshake_timeout=1
    ),
    "create_server with a shutdown timeout and no ssl": lambda e: e.loop.create_server(
        Recorder, LOCALHOST, 0, ssl_shutdown_timeout=1
    ),
    "create_server on a port in use": lambda e: e.loop.create_server(Recorder, *e.listener.getsockname()),
    "create_server on a port too big": lambda e: e.loop.create_server(Recorder, LOCALHOST, 70_000),
    "create_server on a port that is a word": lambda e: e.loop.create_server(Recorder, LOCALHOST, "nosuchservice"),
    "create_server on somebody else's address": lambda e: e.loop.create_server(Recorder, "192.0.2.1", 0),
    "create_server on a number": lambda e: e.loop.create_server(Recorder, 5, 0),
    "create_server on hosts of which one is a number": lambda e: e.loop.create_server(Recorder, [LOCALHOST, 5], 0),
    "create_server on no hosts": lambda e: e.loop.create_server(Recorder, [], 0),
    "create_server with a string for a backlog": lambda e: e.loop.create_server(Recorder, LOCALHOST, 0, backlog=BAD),
    "create_server with a family that is none": lambda e: e.loop.create_server(Recorder, LOCALHOST, 0, family=12345),
    "create_server with an unknown keyword": lambda e: e.loop.create_server(Recorder, LOCALHOST, 0, unknown=1),
    "create_unix_server nowhere": lambda e: e.loop.create_unix_server(Recorder),
    "create_unix_server on a path and a socket": lambda e: e.loop.create_unix_server(
        Recorder, e.path(), sock=e.socket(socket.AF_UNIX)
    ),
    "create_unix_server on a path that is a file": lambda e: e.loop.create_unix_server(Recorder, __file__),
    "create_unix_server in no such directory": lambda e: e.loop.create_unix_server(
        Recorder, "/no/such/directory/socket"
    ),
    "create_unix_server on a path too long": lambda e: e.loop.create_unix_server(Recorder, "/tmp/" + "x" * 300),
    "create_unix_server on a number": lambda e: e.loop.create_unix_server(Recorder, 5),
    "create_unix_server on an Internet socket": lambda e: e.loop.create_unix_server(Recorder, sock=e.socket()),
    "create_unix_server with ssl=True": lambda e: e.loop.create_unix_server(Recorder, e.path(), ssl=True),
    "create_unix_server with a handshake timeout and no ssl": lambda e: e.loop.create_unix_server(
        Recorder, e.path(), ssl_handshake_timeout=1
    ),
    "start_serving of a closed server": lambda e: closed_server(e, "start_serving"),
    "serve_forever of a closed server": lambda e: closed_server(e, "serve_forever"),
    "close of a closed server": lambda e: closed_server(e, "close"),
    "wait_closed of a closed server": lambda e: closed_server(e, "wait_closed"),
    "serve_forever twice": serve_forever_twice,
}

DATAGRAMS = {
    "create_datagram_endpoint nowhere": lambda e: e.loop.create_datagram_endpoint(asyncio.DatagramProtocol),
    "create_datagram_endpoint over a stream socket": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, sock=e.socket()
    ),
    "create_datagram_endpoint over a socket and an address": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, (LOCALHOST, 0), sock=e.udp
    ),
    "create_datagram_endpoint over a socket with options": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, sock=e.udp, allow_broadcast=True, reuse_port=True
    ),
    "create_datagram_endpoint at a string": lambda e: e.loop.create_datagram_endpoint(asyncio.DatagramProtocol, BAD),
    "create_datagram_endpoint at a list": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, [LOCALHOST, 0]
    ),
    "create_datagram_endpoint at three values": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, (LOCALHOST, 0, 0)
    ),
    "create_datagram_endpoint at addresses of two families": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, (LOCALHOST, 0), ("::1", 9)
    ),
    "create_datagram_endpoint at somebody else's address": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, ("192.0.2.1", 0)
    ),
    "create_datagram_endpoint at a port too big": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, (LOCALHOST, 70_000)
    ),
    "create_datagram_endpoint at a Unix path that is a tuple": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, (LOCALHOST, 0), family=socket.AF_UNIX
    ),
    "create_datagram_endpoint with the reuse_address that is gone": lambda e: e.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, (LOCALHOST, 0), reuse_address=True
    ),
    "create_datagram_endpoint with a factory that fails": lambda e: e.loop.create_datagram_endpoint(
        BadProtocolFactory(), (LOCALHOST, 0)
    ),
    "sendto of a string": with_datagrams(lambda t: t.sendto(BAD, (LOCALHOST, 9))),
    "sendto of None": with_datagrams(lambda t: t.sendto(None, (LOCALHOST, 9))),
    "sendto nowhere": with_datagrams(lambda t: t.sendto(b"x")),
    "sendto a string": with_datagrams(lambda t: t.sendto(b"x", BAD)),
    "sendto a port too big": with_datagrams(lambda t: t.sendto(b"x", (LOCALHOST, 70_000))),
    "sendto more than a datagram holds": with_datagrams(lambda t: t.sendto(bytes(70_000), (LOCALHOST, 9))),
    "sendto elsewhere than connected": with_datagrams(
        lambda t: t.sendto(b"x", (LOCALHOST, 10)), remote_addr=(LOCALHOST, 9)
    ),
    "sendto after close": with_datagrams(lambda t: (t.close(), t.sendto(b"x", (LOCALHOST, 9)))),
    "sendto after abort": with_datagrams(lambda t: (t.abort(), t.sendto(b"x", (LOCALHOST, 9)))),
}


async def sendfile_after_close(e):
    transport = await e.transport()
    transport.close()
    await e.loop.sendfile(transport, e.file())


async def sendfile_of(e, file, *arguments, **keywords):
    await e.loop.sendfile(await e.transport(), file, *arguments, **keywords)


TRANSPORTS = {
    "write of a string": with_transport(lambda t: t.write(BAD)),
    "write of None": with_transport(lambda t: t.write(None)),
    "write of a number": with_transport(lambda t: t.write(5)),
    "write of a list": with_transport(lambda t: t.write([1, 2])),
    "write of nothing": with_transport(lambda t: t.write(b"")),
    "write without an argument": with_transport(lambda t: t.write()),
    "writelines of a number": with_transport(lambda t: t.writelines(5)),
    "writelines of numbers": with_transport(lambda t: t.writelines([5])),
    "writelines of strings": with_transport(lambda t: t.writelines([BAD])),
    "write after write_eof": with_transport(lambda t: (t.write_eof(), t.write(b"x"))),
    "writelines after write_eof": with_transport(lambda t: (t.write_eof(), t.writelines([b"x"]))),
    "write_eof twice": with_transport(lambda t: (t.write_eof(), t.write_eof())),
    "write_eof after close": with_transport(lambda t: (t.close(), t.write_eof())),
    "write after close": with_transport(lambda t: (t.close(), t.write(b"x"))),
    "write of a string after close": with_transport(lambda t: (t.close(), t.write(BAD))),
    "close twice": with_transport(lambda t: (t.close(), t.close())),
    "pause_reading after close": with_transport(lambda t: (t.close(), t.pause_reading(), t.resume_reading())),
    "negative limits": with_transport(lambda t: t.set_write_buffer_limits(high=NEGATIVE)),
    "a low mark above the high one": with_transport(lambda t: t.set_write_buffer_limits(high=1, low=2)),
    "a negative low mark": with_transport(lambda t: t.set_write_buffer_limits(low=NEGATIVE)),
    "a string for a mark": with_transport(lambda t: t.set_write_buffer_limits(high=BAD)),
    "a huge mark": with_transport(lambda t: t.set_write_buffer_limits(high=HUGE)),
    "get_extra_info without a name": with_transport(lambda t: t.get_extra_info()),
    "get_extra_info of a number": with_transport(lambda t: t.get_extra_info(5)),
    "set_protocol without a protocol": with_transport(lambda t: t.set_protocol()),
    "sendfile over a closed transport": sendfile_after_close,
    "sendfile of a text file": lambda e: sendfile_of(e, io.StringIO("x")),
    "sendfile of a file that is none": lambda e: sendfile_of(e, BAD),
    "sendfile with count zero": lambda e: sendfile_of(e, e.file(), 0, 0),
    "sendfile with a negative count": lambda e: sendfile_of(e, e.file(), 0, NEGATIVE),
    "sendfile with a string for a count": lambda e: sendfile_of(e, e.file(), 0, BAD),
    "sendfile with a negative offset": lambda e: sendfile_of(e, e.file(), NEGATIVE),
    "sendfile with a string for an offset": lambda e: sendfile_of(e, e.file(), BAD),
    "sendfile without fallback of what has no descriptor": lambda e: sendfile_of(e, io.BytesIO(b"x"), fallback=False),
    "sendfile with fallback of what has no descriptor": lambda e: sendfile_of(e, io.BytesIO(b"x")),
    "sendfile over None": lambda e: e.loop.sendfile(None, e.file()),
    "sock_sendfile of a text file": lambda e: e.loop.sock_sendfile(e.connected, io.StringIO("x")),
    "sock_sendfile of a file that is none": lambda e: e.loop.sock_sendfile(e.connected, BAD),
    "sock_sendfile with count zero": lambda e: e.loop.sock_sendfile(e.connected, e.file(), 0, 0),
    "sock_sendfile with a negative count": lambda e: e.loop.sock_sendfile(e.connected, e.file(), 0, NEGATIVE),
    "sock_sendfile with a string for a count": lambda e: e.loop.sock_sendfile(e.connected, e.file(), 0, BAD),
    "sock_sendfile with a negative offset": lambda e: e.loop.sock_sendfile(e.connected, e.file(), NEGATIVE),
    "sock_sendfile with a string for an offset": lambda e: e.loop.sock_sendfile(e.connected, e.file(), BAD),
    "sock_sendfile over a datagram socket": lambda e: e.loop.sock_sendfile(e.udp, e.file()),
    "sock_sendfile without fallback of what has no descriptor": lambda e: e.loop.sock_sendfile(
        e.connected, io.BytesIO(b"x"), fallback=False
    ),
    "sock_sendfile of a closed file": lambda e: e.loop.sock_sendfile(e.connected, e.closed_file),
    "sock_sendfile over a closed socket": lambda e: e.loop.sock_sendfile(e.closed, e.file()),
}

PIPES_AND_PROCESSES = {
    "connect_read_pipe of a regular file": lambda e: e.loop.connect_read_pipe(Recorder, e.file()),
    "connect_write_pipe of a regular file": lambda e: e.loop.connect_write_pipe(Recorder, e.file()),
    "connect_read_pipe of None": lambda e: e.loop.connect_read_pipe(Recorder, None),
    "connect_write_pipe of None": lambda e: e.loop.connect_write_pipe(Recorder, None),
    "connect_read_pipe of a closed file": lambda e: e.loop.connect_read_pipe(Recorder, e.closed_file),
    "connect_read_pipe with a factory that fails": lambda e: e.loop.connect_read_pipe(
        BadProtocolFactory(), e.connected
    ),
    "subprocess_exec of nothing": lambda e: e.loop.subprocess_exec(asyncio.SubprocessProtocol),
    "subprocess_exec of a number": lambda e: e.loop.subprocess_exec(asyncio.SubprocessProtocol, 5),
    "subprocess_exec with a number as argument": lambda e: e.loop.subprocess_exec(
        asyncio.SubprocessProtocol, "true", 5
    ),
    "subprocess_exec of no such program": lambda e: e.loop.subprocess_exec(
        asyncio.SubprocessProtocol, "/no/such/program"
    ),
    "subprocess_exec of what is not executable": lambda e: e.loop.subprocess_exec(
        asyncio.SubprocessProtocol, "/etc/hostname"
    ),
    "subprocess_exec of a name with a NUL": lambda e: e.loop.subprocess_exec(asyncio.SubprocessProtocol, "a\0b"),
    "subprocess_exec in no such directory": lambda e: e.loop.subprocess_exec(
        asyncio.SubprocessProtocol, "true", cwd="/no/such/directory"
    ),
    "subprocess_exec with a string for stdin": lambda e: e.loop.subprocess_exec(
        asyncio.SubprocessProtocol, "true", stdin=BAD
    ),
    "subprocess_exec with an unknown keyword": lambda e: e.loop.subprocess_exec(
        asyncio.SubprocessProtocol, "true", unknown=1
    ),
    "subprocess_exec with a bad environment": lambda e: e.loop.subprocess_exec(
        asyncio.SubprocessProtocol, "true", env={"a": 5}
    ),
    "subprocess_exec with a factory that fails": lambda e: e.loop.subprocess_exec(BadProtocolFactory(), "true"),
    "subprocess_shell of a number": lambda e: e.loop.subprocess_shell(asyncio.SubprocessProtocol, 5),
    "subprocess_shell of nothing": lambda e: e.loop.subprocess_shell(asyncio.SubprocessProtocol),
    **{
        f"subprocess_{kind} with {keyword}={value!r}": lambda e, kind=kind, given={keyword: value}: getattr(
            e.loop, f"subprocess_{kind}"
        )(asyncio.SubprocessProtocol, "true", **given)
        for kind in ("exec", "shell")
        for keyword, value in (
            ("universal_newlines", True),
            ("text", True),
            ("encoding", "utf-8"),
            ("errors", "strict"),
            ("bufsize", 1),
            ("shell", kind == "exec"),
        )
    },
}
