"""When bytes reached this machine: the kernel knows, and says so of a TCP socket that was told to keep the time.

Elsewhere than on Linux, and for what arrived before it was told, nobody knows.
"""

import platform
import socket
import struct
import sys
import time

from .copies import socket_at

_SO_TIMESTAMPING = 37
_ARRIVAL_BY_KERNEL = (1 << 3) | (1 << 4)
_TIMES = struct.Struct("@6l")
_FAMILIES = {socket.AF_INET, socket.AF_INET6}
_KNOWS = sys.platform == "linux" and platform.machine() in {"x86_64", "aarch64"}


def keep_time(fd):
    """Have the kernel note when bytes arrive at this socket. Returns whether it will."""
    if not _KNOWS:
        return False
    try:
        with socket_at(fd) as copy:
            if copy.type != socket.SOCK_STREAM or copy.family not in _FAMILIES:
                return False
            copy.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _ARRIVAL_BY_KERNEL)
            return True
    except OSError:
        return False


def age(fd):
    """How many seconds ago the first bytes that wait at a socket arrived; None if nobody knows. Takes nothing."""
    flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
    try:
        with socket_at(fd) as copy:
            _, notes, _, _ = copy.recvmsg(1, socket.CMSG_SPACE(_TIMES.size), flags)
    except OSError:
        return None
    now = time.time()
    for level, kind, data in notes:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPING and len(data) >= _TIMES.size:
            seconds, nanoseconds, *_ = _TIMES.unpack(data[: _TIMES.size])
            if seconds:
                return max(0.0, now - seconds - nanoseconds / 1e9)
    return None


def waiting(fd):
    """How many bytes wait to be read there; None if that cannot be told."""
    try:
        import fcntl
        import termios

        return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0]
    except (ImportError, OSError):
        return None
