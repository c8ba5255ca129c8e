"""The SSL objects beneath a TLS transport: contexts may make their own, and other threads keep off."""

import asyncio
import os
import ssl
import threading

import pytest

from .ends import close_both, connect, until


def test_a_context_may_make_ssl_objects_of_its_own(run, server_tls, client_tls):
    reads = []

    class Counting(ssl.SSLObject):
        def read(self, *args):
            data = super().read(*args)
            reads.append(data)
            return data

    client_tls.sslobject_class = Counting

    async def main():
        server, client = await connect(server_tls, client_tls)
        assert type(client.transport.get_extra_info("ssl_object")) is Counting
        data = os.urandom(100_000)
        server.transport.write(data)
        client.transport.write(data)
        await until(lambda: client.data == data and server.data == data)
        assert b"".join(reads) == data
        await close_both(server, client)

    assert run(main) == []


def test_other_threads_are_told_to_keep_off_what_openssl_has(new_loop, server_tls, client_tls):
    if new_loop is asyncio.SelectorEventLoop:
        pytest.skip("asyncio does not notice")
    raised = []

    def ask(transport):
        try:
            transport.get_write_buffer_size()
        except RuntimeError as error:
            raised.append(error)

    async def main():
        server, client = await connect(server_tls, client_tls)
        thread = threading.Thread(target=ask, args=(client.transport,))
        thread.start()
        thread.join()
        await close_both(server, client)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert "non-thread-safe" in str(raised[0]).lower()
