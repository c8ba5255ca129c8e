"""TLS: CPython's own ``SSLObject`` does the cryptography, so that any ``ssl.SSLContext`` is honoured in full."""

from asyncio import sslproto


def wrap(
    loop, protocol, context, waiter, server_side, server_hostname, *,
    ssl_handshake_timeout=None, ssl_shutdown_timeout=None, call_connection_made=True,
):
    """The protocol for the encrypted side of a connection whose plain side is ``protocol``."""
    return sslproto.SSLProtocol(
        loop, protocol, context if context is not True else None, waiter, server_side, server_hostname,
        ssl_handshake_timeout=ssl_handshake_timeout, ssl_shutdown_timeout=ssl_shutdown_timeout,
        call_connection_made=call_connection_made,
    )


async def start_tls(
    loop, transport, protocol, context, *, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout,
):
    """Encrypt a connection that is open; returns the transport of the plain side."""
    import ssl

    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {context!r}")
    if not getattr(transport, "_start_tls_compatible", False):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")
    waiter = loop.create_future()
    wrapped = wrap(
        loop, protocol, context, waiter, server_side, server_hostname, call_connection_made=False,
        ssl_handshake_timeout=ssl_handshake_timeout, ssl_shutdown_timeout=ssl_shutdown_timeout,
    )
    # What arrives from here on is the TLS layer's, none of it the old protocol's.
    transport.pause_reading()
    transport.set_protocol(wrapped)
    made = loop.call_soon(wrapped.connection_made, transport)
    resumed = loop.call_soon(transport.resume_reading)
    try:
        await waiter
    except BaseException:
        transport.close()
        made.cancel()
        resumed.cancel()
        raise
    return wrapped._app_transport
