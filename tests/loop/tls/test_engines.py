"""TLS goes through CPython's OpenSSL where that can be reached, and through `ssl.SSLObject` elsewhere: nobody else can tell."""

import _ssl
import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading

import pytest
import trustme

from .ends import Recorder, close_both, connect, turns, until

pytestmark = pytest.mark.parametrize("new_loop", ["ferrio"], indirect=True)

#: A part of the interpreter has no file, and a free-threaded build another layout.
WITHIN_REACH = hasattr(_ssl, "__file__") and getattr(sys, "_is_gil_enabled", lambda: True)()
WAYS = ["OpenSSL", "SSLObject"] if WITHIN_REACH and os.environ.get("FERRIO_OPENSSL") != "off" else ["SSLObject"]
way = pytest.mark.parametrize("way", WAYS)

#: A record of application data that was encrypted with other keys.
GARBAGE = b"\x17\x03\x03\x00\x20" + bytes(32)


@pytest.fixture
def run(new_loop):
    def run(main):
        async def bounded():
            async with asyncio.timeout(20):
                await main()
            await turns(3)

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(bounded())

    return run


def go(way, *contexts):
    """Has connections of these contexts go one way. (A callback for messages is heard by SSLObject alone.)"""
    if way == "SSLObject":
        for context in contexts:
            context._msg_callback = lambda *_: None


def engine(protocol):
    return protocol.transport._ssl_protocol._engine


@way
def test_the_way_is_chosen_for_each_connection(run, server_tls, client_tls, way):
    go(way, client_tls)

    async def main():
        server, client = await connect(server_tls, client_tls)
        assert (engine(server), engine(client)) == (WAYS[0], way)
        await close_both(server, client)

    run(main)


def test_ssl_objects_of_ones_own_are_asked(run, server_tls, client_tls):
    client_tls.sslobject_class = type("Own", (ssl.SSLObject,), {})

    async def main():
        server, client = await connect(server_tls, client_tls)
        assert engine(client) == "SSLObject"
        await close_both(server, client)

    run(main)


@way
def test_data_of_all_sizes_arrives(run, server_tls, client_tls, way):
    go(way, server_tls, client_tls)

    async def main():
        server, client = await connect(server_tls, client_tls)
        data = os.urandom(1_500_000)
        sent = 0
        for size in [1, 5, 1_000, 16_383, 16_384, 16_385, 65_000, 70_000, 500_000, 800_000]:
            server.transport.write(data[sent : sent + size])
            client.transport.write(data[sent : sent + size])
            sent += size
            await until(lambda sent=sent: client.data == data[:sent] and server.data == data[:sent])
        await close_both(server, client)

    run(main)


@way
def test_records_may_come_byte_by_byte(run, server_tls, client_tls, way):
    go(way, client_tls)

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        peer = server_tls.wrap_bio(incoming, outgoing, server_side=True)

        async def exchange(call, *arguments):
            while True:
                try:
                    result = call(*arguments)
                except ssl.SSLWantReadError:
                    result = None
                for byte in outgoing.read():
                    await loop.sock_sendall(theirs, bytes([byte]))
                    await asyncio.sleep(0)
                if result is not None or call == peer.do_handshake and peer.version():
                    return result
                incoming.write(await loop.sock_recv(theirs, 65536))

        connecting = loop.create_connection(Recorder, sock=ours, ssl=client_tls, server_hostname="localhost")
        (_, client), _ = await asyncio.gather(connecting, exchange(peer.do_handshake))
        data = os.urandom(20_000)
        for start in range(0, len(data), 4_000):
            await exchange(peer.write, data[start : start + 4_000])
        await until(lambda: client.data == data)
        assert engine(client) == way
        client.transport.abort()
        await client.lost
        theirs.close()

    run(main)


@way
def test_an_answer_leaves_though_the_protocol_fails_after_it(new_loop, server_tls, client_tls, way):
    go(way, client_tls)
    protocols = []

    class Interrupting(Recorder):
        def data_received(self, data):
            self.transport.write(b"answer")
            raise KeyboardInterrupt

    async def main():
        protocols.extend(await connect(server_tls, client_tls, client=Interrupting))
        protocols[0].transport.write(b"question")
        await asyncio.sleep(10)

    async def rest():
        server, client = protocols
        await until(lambda: server.data == b"answer")
        client.transport.abort()
        server.transport.abort()
        await turns(5)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
        runner.run(asyncio.wait_for(rest(), 10))


# --- errors are CPython's --------------------------------------------------------------------------------------------


def test_garbage(run, server_tls, client_tls):
    errors = []

    async def main():
        server, client = await connect(server_tls, client_tls)
        with socket.socket(fileno=os.dup(server.transport.get_extra_info("socket").fileno())) as raw:
            raw.send(GARBAGE)
        errors.append(await client.lost)
        await server.lost

    for way in WAYS:
        go(way, client_tls)
        run(main)
    # Which reason it is depends on the version of OpenSSL, and the line on CPython's.
    told = {(type(e), e.library, e.reason, e.errno, e.strerror.partition(" (_ssl.c:")[0]) for e in errors}
    [(kind, library, reason, _, _)] = told
    assert (kind, library) == (ssl.SSLError, "SSL") and reason


@way
def test_an_alert(run, authority, server_tls, client_tls, way):
    """A TLS 1.3 client's handshake is over before the server misses its certificate."""
    go(way, client_tls)
    server_tls.minimum_version = ssl.TLSVersion.TLSv1_3
    server_tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_tls)

    async def main():
        client = peer = None
        try:
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            peer = threading.Thread(target=refuse, args=(server_tls, theirs))
            peer.start()
            _, client = await loop.create_connection(Recorder, sock=ours, ssl=client_tls, server_hostname="localhost")
            error = await client.lost
            assert type(error) is ssl.SSLError
            assert (error.library, error.reason) == ("SSL", "TLSV13_ALERT_CERTIFICATE_REQUIRED")
        finally:
            peer.join()

    run(main)


def refuse(context, sock):
    with pytest.raises(ssl.SSLError):
        context.wrap_socket(sock, server_side=True)
    sock.close()


@way
@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_that_is_asked_for_later(run, authority, server_tls, client_tls, way, trusted):
    go(way, server_tls)
    for context in (server_tls, client_tls):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.post_handshake_auth = True
    server_tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_tls)
    (authority if trusted else trustme.CA()).issue_cert("client").configure_cert(client_tls)

    async def main():
        server, client = await connect(server_tls, client_tls)
        ours = server.transport.get_extra_info("ssl_object")
        assert ours.getpeercert() is None
        ours.verify_client_post_handshake()
        server.transport.write(b"who are you?")
        await until(lambda: client.data)
        if trusted:
            client.transport.write(b"see above")
            await until(lambda: server.data)
            assert ("DNS", "client") in ours.getpeercert()["subjectAltName"]
            return await close_both(server, client)
        error = await server.lost
        assert type(error) is ssl.SSLCertVerificationError
        assert (error.library, error.reason) == ("SSL", "CERTIFICATE_VERIFY_FAILED")
        assert error.verify_code and error.verify_message
        await client.lost

    run(main)


# --- what else TLS has to say ----------------------------------------------------------------------------------------


@way
def test_session_tickets_are_taken(run, server_tls, client_tls, way):
    go(way, client_tls)

    async def main():
        server, client = await connect(server_tls, client_tls)
        server.transport.write(b"x")
        await until(lambda: client.data)
        assert client.transport.get_extra_info("ssl_object").session.has_ticket
        await close_both(server, client)

    run(main)


@way
@pytest.mark.skipif(shutil.which("openssl") is None, reason="only the program openssl changes its keys on request")
@pytest.mark.parametrize("command", ["k", "K"], ids=["its own", "both"])
def test_new_keys_in_the_middle_of_a_connection(run, server_tls, way, command):
    go(way, server_tls)

    class Echo(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.write(b"<" + data + b">")

    async def main():
        loop = asyncio.get_running_loop()
        served = loop.create_future()

        class Serve(Echo):
            def connection_made(self, transport):
                super().connection_made(transport)
                served.set_result(self)

        async with await loop.create_server(Serve, "127.0.0.1", 0, ssl=server_tls) as server:
            host, port = server.sockets[0].getsockname()
            words = ["openssl", "s_client", "-connect", f"{host}:{port}", "-tls1_3"]
            with subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as peer:

                def say(words):
                    peer.stdin.write(words)
                    peer.stdin.flush()

                protocol = await served
                assert engine(protocol) == way
                say(b"one\n")
                await until(lambda: protocol.data == b"one\n")
                say(command.encode() + b"\n")
                await asyncio.sleep(0.2)  # It takes what comes at once for one line.
                say(b"two\n")
                await until(lambda: protocol.data == b"one\ntwo\n")
                peer.stdin.close()
                told = await loop.run_in_executor(None, peer.stdout.read)
                assert b"<one\n>" in told and b"<two\n>" in told
                assert await protocol.lost is None

    run(main)


@way
def test_an_ssl_object_outlives_its_connection(new_loop, server_tls, client_tls, way):
    go(way, client_tls)

    async def main():
        server, client = await connect(server_tls, client_tls)
        ours = client.transport.get_extra_info("ssl_object")
        server.transport.write(b"x")
        await until(lambda: client.data)
        server.transport.abort()
        client.transport.abort()
        await client.lost
        await server.lost
        return ours

    with asyncio.Runner(loop_factory=new_loop) as runner:
        ours = runner.run(main())
    assert ours.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLWantReadError):
        ours.read(1)
    assert ours.write(b"nobody hears") == 12
