"""The caller's `ssl.SSLContext` decides: certificates, names, versions, ciphers."""

import ssl

import pytest

from .ends import finish, tls_pair


def test_alpn_is_the_contexts(run, pair, client_tls, server_tls):
    client_tls.set_alpn_protocols(["h2", "http/1.1"])
    server_tls.set_alpn_protocols(["http/1.1"])

    async def main():
        transport, protocol, peer = await pair()
        assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        await finish(transport, protocol, peer)

    run(main())


def test_the_sni_callback_of_a_server_is_called_and_may_change_the_context(run, pair, server_tls, authority):
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", common_name="the other certificate").configure_cert(other)
    asked = []

    def choose(ssl_object, name, context):
        asked.append(name)
        ssl_object.context = other

    server_tls.sni_callback = choose

    async def main():
        transport, protocol, peer = await pair(server_side=True)
        assert asked == ["localhost"]
        assert ((("commonName", "the other certificate"),)) in peer.getpeercert()["subject"]
        await finish(transport, protocol, peer)

    run(main())


def test_a_certificate_nobody_trusts_is_refused(run, sockets, server_tls):
    async def main():
        with pytest.raises(ssl.SSLCertVerificationError):
            await tls_pair(sockets, ssl.create_default_context(), server_tls)

    run(main())


def test_a_certificate_for_another_name_is_refused(run, pair):
    async def main():
        with pytest.raises(ssl.SSLCertVerificationError, match="[Hh]ostname"):
            await pair(server_hostname="elsewhere.example")

    run(main())


def test_a_context_that_asks_for_no_certificate_takes_any(run, sockets, server_tls):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def main():
        transport, protocol, peer = await tls_pair(sockets, context, server_tls, server_hostname="elsewhere.example")
        assert transport.get_extra_info("peercert") == {}
        await finish(transport, protocol, peer)

    run(main())


def test_a_context_without_hostname_check_still_checks_the_certificate(run, sockets, client_tls, server_tls):
    client_tls.check_hostname = False

    async def main():
        transport, protocol, peer = await tls_pair(sockets, client_tls, server_tls, server_hostname="elsewhere.example")
        await finish(transport, protocol, peer)

    run(main())


def test_a_server_may_ask_for_the_clients_certificate(run, pair, authority, client_tls, server_tls):
    authority.issue_cert("client@example.org").configure_cert(client_tls)
    authority.configure_trust(server_tls)
    server_tls.verify_mode = ssl.CERT_REQUIRED

    async def main():
        transport, protocol, peer = await pair(server_side=True)
        assert ("email", "client@example.org") in transport.get_extra_info("peercert")["subjectAltName"]
        await finish(transport, protocol, peer)

    run(main())


def test_the_contexts_ciphers_are_used(run, pair, client_tls):
    client_tls.maximum_version = ssl.TLSVersion.TLSv1_2
    client_tls.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384")

    async def main():
        transport, protocol, peer = await pair()
        assert transport.get_extra_info("cipher")[0].endswith("AES256-GCM-SHA384")
        await finish(transport, protocol, peer)

    run(main())


def test_versions_that_do_not_meet_are_refused(run, pair, client_tls, server_tls):
    client_tls.maximum_version = ssl.TLSVersion.TLSv1_2
    server_tls.minimum_version = ssl.TLSVersion.TLSv1_3

    async def main():
        with pytest.raises(ssl.SSLError):
            await pair()

    run(main())


def test_keys_are_logged_where_the_context_says(run, pair, client_tls, tmp_path):
    client_tls.keylog_filename = str(tmp_path / "keys")

    async def main():
        await finish(*await pair())

    run(main())
    assert "TRAFFIC_SECRET" in (tmp_path / "keys").read_text()


def test_a_key_that_was_encrypted_on_disk_works(run, sockets, client_tls, certificate, tmp_path):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    (tmp_path / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    (tmp_path / "certificate").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key", password="secret")

    async def main():
        await finish(*await tls_pair(sockets, client_tls, context, server_side=True))

    run(main())


def test_a_subclass_of_the_context_is_asked(run, sockets, authority, server_tls):
    made = []

    class Context(ssl.SSLContext):
        def wrap_bio(self, *args, **keywords):
            made.append(keywords.get("server_hostname"))
            return super().wrap_bio(*args, **keywords)

    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)

    async def main():
        await finish(*await tls_pair(sockets, context, server_tls))

    run(main())
    assert made == ["localhost"]
