"""A socket that is known by its number only: looked at through a copy of the descriptor, which is closed again."""

import errno
import os
import socket
import stat


def socket_at(number):
    """A socket object of its own for the socket with this number; to be closed by ``with``.

    :raises OSError: if the number is no socket's. (Asked first: Python would not close the copy of something else.)
    """
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    return socket.socket(fileno=os.dup(number))
