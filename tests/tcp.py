"""TCP connections of which every kernel holds equally much."""

import socket

BUFFER = 128 * 1024  # Bytes, each way; Linux doubles it.


def tcp_pair():
    """Two connected sockets. A kernel that may grow their buffers to 32 MiB would take in one go what tests fill them with."""

    def limited():
        # With its protocol: asyncio takes a socket without one for something else than TCP.
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        return sock

    with limited() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = limited()
        ours.connect(listener.getsockname())
        theirs, _ = listener.accept()  # Has the listener's limits.
    return ours, theirs
