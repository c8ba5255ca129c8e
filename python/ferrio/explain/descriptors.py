"""What the loop watches: which socket or pipe a number is, who its peer is, and when its bytes have arrived."""

import asyncio

from . import kernel
from .callbacks import is_inner, short_name
from .copies import socket_at
from .waits import address, peer_of

#: The classes of what has a connection, whose bytes go to whoever waits for them by then.
_CONNECTIONS = {"StreamTransport", "DatagramTransport", "ReadPipeTransport"}


class Descriptors:
    def __init__(self, loop, virtual):
        self._loop = loop
        self._virtual = virtual
        self._about = {}  # number → what is known of it
        self._timed = set()  # sockets whose bytes the kernel times

    def all(self):
        """(number, direction, who) of all that is watched."""
        loop = self._loop()
        return loop._descriptors() if loop is not None else []

    def of(self, waiter):
        """(number, direction) of what a future waits for, or None."""
        return next(((fd, direction) for fd, direction, who in self.all() if who is waiter), None)

    def connecting(self):
        """The same of the first socket that is being connected."""
        named = (watch for watch in self.all() if getattr(watch[2], "__name__", "") == "sock_connect")
        return next(((fd, direction) for fd, direction, _ in named if direction == "write"), None)

    def refresh(self):
        """Looks again at who watches what: numbers are used again."""
        self._about = {fd: _about(fd, who) for fd, _, who in self.all()}

    def about(self, fd, direction):
        if fd not in self._about:
            self.refresh()
        return {"fd": fd, "direction": direction} | self._about.get(fd, {})

    def keep_time(self, fd):
        """The kernel is to note when bytes arrive there."""
        if not self._virtual and fd not in self._timed and kernel.keep_time(fd):
            self._timed.add(fd)

    def news(self, cause, now):
        """What is known of news: how many bytes have come, and when in the story."""
        fd = cause["fd"]
        if cause["direction"] != "read" or cause.keys() & {"listens", "child", "callback"}:
            return {}
        size = kernel.waiting(fd)
        found = {} if size is None else {"bytes": size}
        age = kernel.age(fd) if fd in self._timed else None
        if age is not None:
            found["arrived"] = round(max(0.0, now - age), 9)
            found["age"] = round(age, 9)
        return found

    def watched(self, waits):
        """What the operating system is asked to watch, for whom: ``waits`` are lives and what they wait for."""
        watched = [
            {key: wait[key] for key in ("fd", "direction", "peer", "pipe", "for") if key in wait}
            | {"task": life.number}
            for life, wait in waits
            if wait["kind"] == "socket" and life.number
        ]
        known = {(watch["fd"], watch["direction"]) for watch in watched}
        for fd, direction, who in self.all():
            if (fd, direction) in known:
                continue
            about = self._about.get(fd, {})
            if type(who).__name__ in _CONNECTIONS:
                about = {"peer": peer_of(fd)} | about
            elif "listens" not in about and (not isinstance(who, asyncio.Handle) or is_inner(who._callback)):
                continue
            watched.append({"fd": fd, "direction": direction, "peer": None} | about)
        return watched[:20]


def _about(fd, who):
    kind = type(who).__name__
    if kind == "Listener":
        return {"listens": _own_address(fd)}
    if kind == "SubprocessTransport":
        return {"child": who.get_pid()}
    if "Pipe" in kind:
        return {"pipe": True}
    if isinstance(who, asyncio.Handle) and not is_inner(who._callback):
        return {"callback": short_name(who._callback)}
    if getattr(who, "__qualname__", "") == "Loop.sock_connect":
        return {"for": "connection"}
    return {}


def _own_address(fd):
    try:
        with socket_at(fd) as copy:
            return address(copy.getsockname())
    except OSError:
        return None
