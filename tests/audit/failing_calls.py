"""Runs programs, each once for every system call of theirs, which fails; prints what was not in order.

A process of its own, under ``failing_calls.c``: ``python -m tests.audit.failing_calls PROGRAM``.
"""

import asyncio
import ctypes
import errno
import gc
import os
import signal
import socket
import ssl
import sys
import tempfile

import ferrio
import trustme

#: Which errors are tried; those that pass must leave no trace.
PASSING = (errno.EINTR, errno.EAGAIN)
NO_ROOM = (errno.ENOMEM, errno.ENOSPC)
NO_DESCRIPTORS = (errno.EMFILE,)
ERRORS = {
    "accept4": (errno.EINTR, errno.EAGAIN, errno.ECONNABORTED, errno.EPERM),
    "bind": (errno.EADDRINUSE,),
    "connect": (errno.ECONNREFUSED, errno.EADDRNOTAVAIL),
    "epoll_create1": NO_DESCRIPTORS,
    "epoll_ctl": NO_ROOM,
    "epoll_pwait": (errno.EINTR,),
    "eventfd": NO_DESCRIPTORS,
    "getaddrinfo": (socket.EAI_AGAIN, socket.EAI_MEMORY),
    "getpeername": (errno.ENOTCONN, errno.ENOBUFS),
    "getsockname": (errno.ENOBUFS,),
    "listen": (errno.EADDRINUSE,),
    "pidfd_open": (errno.EMFILE, errno.ENOSYS),
    "pipe2": NO_DESCRIPTORS,
    "pthread_create": (errno.EAGAIN,),
    "recv": (*PASSING, errno.ECONNRESET, errno.ENOMEM),
    "recvfrom": (*PASSING, errno.ECONNREFUSED, errno.ENOMEM),
    "send": (*PASSING, errno.EPIPE, errno.ENOBUFS),
    "sendfile": (*PASSING, errno.EIO),
    "sendmmsg": (*PASSING, errno.ECONNREFUSED),
    "sendmsg": (*PASSING, errno.ECONNRESET),
    "sendto": (*PASSING, errno.ECONNREFUSED),
    "setsockopt": (errno.ENOBUFS,),
    "socket": NO_DESCRIPTORS,
    "socketpair": NO_DESCRIPTORS,
    "writev": (*PASSING, errno.EPIPE),
}
#: There is another way, nothing to say, or (giving back what is watched) nothing to fail for.
MAY_BE_SILENT = {("accept4", errno.ECONNABORTED), ("pidfd_open", errno.EMFILE), ("pidfd_open", errno.ENOSYS)}
MAY_BE_SILENT |= {("epoll_ctl", code) for code in NO_ROOM}
MAY_BE_SILENT |= {("getpeername", errno.ENOTCONN), ("getpeername", errno.ENOBUFS)}
MAY_BE_SILENT |= {("getsockname", errno.ENOBUFS), ("setsockopt", errno.ENOBUFS)}

#: Later calls are of the same kind.
CALLS = 12
#: In seconds: what takes as long hangs.
PATIENCE = 10
#: More than the kernel takes at once.
DATA = bytes(range(256)) * 1200

shim = ctypes.PyDLL(None)
told = []


class Told:
    """Notes what a protocol is told of errors; ``over`` is done at the end of the connection."""

    def __init__(self):
        self.over = asyncio.get_running_loop().create_future()
        self.received = bytearray()

    def connection_made(self, transport):
        self.transport = transport

    def pause_writing(self):
        pass

    def resume_writing(self):
        pass

    def connection_lost(self, error):
        if error is not None:
            told.append(error)
        if not self.over.done():
            self.over.set_result(error)


class Sink(Told, asyncio.Protocol):
    def data_received(self, data):
        self.received += data


class Echo(Told, asyncio.Protocol):
    def data_received(self, data):
        self.transport.write(data)


class BufferedEcho(Told, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        self.buffer = bytearray(65536)
        return self.buffer

    def buffer_updated(self, nbytes):
        self.transport.write(self.buffer[:nbytes])


class Asking(Sink):
    def connection_made(self, transport):
        super().connection_made(transport)
        transport.write(DATA)

    def data_received(self, data):
        super().data_received(data)
        if len(self.received) >= len(DATA):
            self.transport.close()


async def whole(protocol, transport=None):
    """Waits for the end of a connection, which must have brought everything."""
    try:
        error = await protocol.over
        if error is not None:
            raise error
        if protocol.received != DATA:
            raise EOFError(f"{len(protocol.received)} bytes of {len(DATA)}")
    finally:
        if transport is not None:
            transport.abort()


async def tcp(echo=Echo, server_tls=None, **client):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(echo, "127.0.0.1", 0, ssl=server_tls)
    try:
        for _ in range(2):
            transport, protocol = await loop.create_connection(Asking, *server.sockets[0].getsockname(), **client)
            await whole(protocol, transport)
    finally:
        server.close()


async def buffered():
    await tcp(BufferedEcho)


def contexts():
    """Those of a TLS server and of a client that trusts it; made once, for what is made later is none of the program's."""
    if not made:
        authority = trustme.CA()
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.issue_cert("localhost").configure_cert(server)
        authority.configure_trust(client)
        made.extend((server, client))
    return made


made = []


async def tls():
    server, client = contexts()
    await tcp(Echo, server, ssl=client, server_hostname="localhost")


async def tls_through_ssl_objects():
    await tls()


async def start_tls():
    contexts_of_both = contexts()
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ends = [await loop.connect_accepted_socket(kind, end) for kind, end in ((Sink, ours), (Sink, theirs))]
    try:
        upgrades = [
            loop.start_tls(transport, protocol, context, **options)
            for (transport, protocol), context, options in zip(
                ends, contexts_of_both, ({"server_side": True}, {"server_hostname": "localhost"}), strict=True
            )
        ]
        upgraded = await asyncio.gather(*upgrades)
        if None in upgraded:
            raise EOFError("a connection has ended meanwhile")
        for transport in upgraded:
            transport.write(DATA)
        for _, protocol in ends:
            while len(protocol.received) < len(DATA) and not protocol.over.done():
                await asyncio.sleep(0.001)
        upgraded[0].close()
        for _, protocol in ends:
            await whole(protocol)
    finally:
        for transport, _ in ends:
            transport.abort()


async def unix():
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        server = await loop.create_unix_server(Echo, f"{folder}/socket")
        try:
            transport, protocol = await loop.create_unix_connection(Asking, f"{folder}/socket")
            await whole(protocol, transport)
        finally:
            server.close()


async def streams():
    async def serve(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError as error:
            told.append(error)
        finally:
            writer.close()

    async def ask(writer):
        writer.write(DATA)
        await writer.drain()
        writer.write_eof()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            received, _ = await asyncio.gather(reader.read(), ask(writer))
            if received != DATA:
                raise EOFError(f"{len(received)} bytes of {len(DATA)}")
        finally:
            writer.close()
    finally:
        server.close()


async def sockets():
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)

        async def receive():
            received = bytearray()
            while len(received) < len(DATA) * 8:
                received += await loop.sock_recv(other, 1 << 20)
            await loop.sock_sendall(other, b"thanks")
            return received

        # Both directions of one descriptor are waited for at a time.
        calls = [loop.sock_recv(one, 6), loop.sock_sendall(one, DATA * 8), receive()]
        tasks = [loop.create_task(call) for call in calls]
        try:
            thanks, _, received = await asyncio.gather(*tasks)
            assert (thanks, received) == (b"thanks", DATA * 8)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def datagrams():
    count = 8
    loop = asyncio.get_running_loop()

    class Counting(Told, asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            seen.append(data)
            if len(seen) == count and not self.over.done():
                self.over.set_result(None)

        def error_received(self, error):
            self.connection_lost(error)

    class Answering(Counting):
        def datagram_received(self, data, address):
            self.transport.sendto(data, address)

    seen = []
    server, answering = await loop.create_datagram_endpoint(Answering, local_addr=("127.0.0.1", 0))
    address = server.get_extra_info("socket").getsockname()
    try:
        client, counting = await loop.create_datagram_endpoint(Counting, remote_addr=address)
        try:
            for number in range(count):
                client.sendto(b"%d" % number)
            await asyncio.wait([counting.over, answering.over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            client.abort()
    finally:
        server.abort()


async def child():
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    try:
        received, _ = await process.communicate(DATA)
        # What cannot be written to a child is no error of communicate(): it may not want to read.
        assert DATA.startswith(received)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def pipes():
    loop = asyncio.get_running_loop()
    read, write = os.pipe()
    with open(read, "rb", 0) as source, open(write, "wb", 0) as target:
        reading, sink = await loop.connect_read_pipe(Sink, source)
        try:
            writing, _ = await loop.connect_write_pipe(Told, target)
            writing.write(DATA)
            writing.close()
            await whole(sink)
        finally:
            reading.close()


async def sendfile():
    loop = asyncio.get_running_loop()
    sinks = []
    server = await loop.create_server(lambda: sinks.append(Sink()) or sinks[-1], "127.0.0.1", 0)
    try:
        transport, _ = await loop.create_connection(Told, *server.sockets[0].getsockname())
        try:
            with tempfile.TemporaryFile() as file:
                file.write(DATA)
                file.flush()
                await loop.sendfile(transport, file)
            transport.close()
            while not sinks:
                await asyncio.sleep(0.001)
            await whole(sinks[0])
        finally:
            transport.abort()
    finally:
        server.close()


async def readers():
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    with one, other:
        writable, readable = asyncio.Event(), asyncio.Event()
        try:
            loop.add_reader(one, readable.set)
            loop.add_writer(one, writable.set)
            await writable.wait()
            loop.remove_writer(one)
            await loop.run_in_executor(None, os.write, other.fileno(), b"x")
            await readable.wait()
        finally:
            loop.remove_reader(one)
            loop.remove_writer(one)


async def signals():
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, arrived.set)
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        await arrived.wait()
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


async def names():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "localhost", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        transport, protocol = await loop.create_connection(Asking, "localhost", port)
        await whole(protocol, transport)
        await loop.getnameinfo(("127.0.0.1", port))
    finally:
        server.close()


async def threads():
    pid = await asyncio.get_running_loop().run_in_executor(None, os.getpid)
    assert await asyncio.gather(*[asyncio.to_thread(os.getpid) for _ in range(4)]) == [pid] * 4


PROGRAMS = (tcp, buffered, tls, tls_through_ssl_objects, start_tls, unix, streams, sockets, datagrams, child, pipes)
PROGRAMS += (sendfile, readers, signals, names, threads)


def descriptors():
    paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    # Not the one that read the folder.
    return {path: os.readlink(path) for path in paths if os.path.lexists(path)}


def run(program):
    """Runs a program on a loop of its own; what it and its protocols are told of errors is in ``told``."""

    async def main():
        await asyncio.wait_for(program(), PATIENCE)

    runner = asyncio.Runner(loop_factory=ferrio.new_event_loop)
    try:
        runner.get_loop().set_exception_handler(lambda _, context: told.append(context.get("exception") or context))
        runner.run(main())
    except Exception as error:
        told.append(error)
    finally:
        shim.relent()
        runner.close()


def is_clear(error):
    """An error that says what has happened. (A transport that has ended, and Python's threads, say so by a RuntimeError.)"""
    if isinstance(error, TimeoutError) and error.errno is None:
        return False
    return isinstance(error, (OSError, EOFError)) or str(error) in ("Transport is closing", "can't start new thread")


def complaints(program, function, number, code):
    """What is not in order when a call fails; None if there was no such call."""
    gc.collect()
    before = descriptors()
    told.clear()
    shim.fail(function.encode(), ctypes.c_long(number), ctypes.c_long(1), code)
    run(program)
    if shim.relent() < number:
        return None
    found = [f"unclear: {error!r}" for error in told if not is_clear(error)]
    is_passing = code in PASSING and function != "pthread_create"
    if is_passing and told:
        found.append(f"not passed over: {told}")
    if not is_passing and (function, code) not in MAY_BE_SILENT and not told:
        found.append("swallowed")
    if told and all(isinstance(error, EOFError) for error in told):
        found.append(f"data lost in silence: {told}")
    told.clear()
    gc.collect()
    left = {path: target for path, target in descriptors().items() if before.get(path) != target}
    if left:
        found.append(f"left open: {left}")
    return found


def sweep(program):
    for _ in range(2):
        run(program)
    if told:
        sys.exit(f"{program.__name__} fails by itself: {told}")
    cases = 0
    for function, codes in ERRORS.items():
        for code in codes:
            for number in range(1, CALLS + 1):
                found = complaints(program, function, number, code)
                if found is None:
                    break
                cases += 1
                for complaint in found:
                    name = errno.errorcode.get(code, code)
                    print(f"{program.__name__}: {function}() number {number}, {name}: {complaint}")
    print(cases, "cases")


if __name__ == "__main__":
    shim.relent.restype = ctypes.c_long
    if sys.argv[1] == tls_through_ssl_objects.__name__:
        os.environ["FERRIO_OPENSSL"] = "off"
    sweep({program.__name__: program for program in PROGRAMS}[sys.argv[1]])
