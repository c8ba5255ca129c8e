"""What native code says in Python because it is said rarely: reprs, debug mode's checks and tracebacks."""

import asyncio
import contextlib
import importlib
import inspect
import logging
import os
import selectors
import socket
import stat
import subprocess
import sys
import types
import warnings
from asyncio import base_subprocess, format_helpers
from pathlib import Path

logger = logging.getLogger("asyncio")


# Newer CPythons show the arguments, which may be confidential, in debug mode only.
_HIDES_ARGUMENTS = "debug" in inspect.signature(format_helpers._format_callback_source).parameters


def describe_callback(handle):
    """The callback and where it is defined, as asyncio words it; with its arguments in debug mode."""
    options = {"debug": handle._loop.get_debug()} if _HIDES_ARGUMENTS else {}
    return format_helpers._format_callback_source(handle._callback, handle._args or (), **options)


def handle_repr(handle):
    if handle._repr is not None:
        return handle._repr
    info = [type(handle).__name__]
    if handle._cancelled:
        info.append("cancelled")
    when = getattr(handle, "_when", None)
    if when is not None:
        info.append(f"when={when}")
    if handle._callback is not None:
        info.append(describe_callback(handle))
    if handle._source_traceback:
        frame = handle._source_traceback[-1]
        info.append(f"created at {frame[0]}:{frame[1]}")
    return f"<{' '.join(info)}>"


def extract_stack():
    """The stack of whoever called the native code that called this."""
    return format_helpers.extract_stack(sys._getframe(1))


def check_callback(callback, method):
    if asyncio.iscoroutine(callback) or _is_coroutine_function(callback):
        raise TypeError(f"coroutines cannot be used with {method}()")
    if not callable(callback):
        raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")


def _is_coroutine_function(callback):
    if sys.version_info >= (3, 14):
        return inspect.iscoroutinefunction(callback)
    return asyncio.iscoroutinefunction(callback)


class WatchedDescriptors:
    """What ``loop._selector`` is for tools that look at it: which descriptors are watched, and by which handles."""

    def __init__(self, watchers):
        self._keys = {}
        for fd, direction, handle in watchers:
            key = self._keys.get(fd) or selectors.SelectorKey(fd, fd, 0, (None, None))
            both = (handle, key.data[1]) if direction == 0 else (key.data[0], handle)
            event = selectors.EVENT_READ if direction == 0 else selectors.EVENT_WRITE
            self._keys[fd] = key._replace(events=key.events | event, data=both)

    def get_map(self):
        return types.MappingProxyType(self._keys)

    def get_key(self, fileobj):
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        try:
            return self._keys[fd]
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None


def log_slow(step, seconds):
    """Debug mode: one step of the loop held everything else up. ``step`` is a handle, or the object it belongs to."""
    task = getattr(getattr(step, "_callback", None), "__self__", None)
    logger.warning("Executing %r took %.3f seconds", task if isinstance(task, asyncio.Task) else step, seconds)


def warn_lost_write():
    logger.warning("socket.send() raised exception.")


def log_lost(transport, message, error):
    """Debug mode: a connection ended with an OSError, which is no bug of anybody here."""
    logger.debug("%r: %s", transport, message, exc_info=error)


def timed_getaddrinfo(loop):
    """socket.getaddrinfo for debug mode: tells how long it took."""

    def getaddrinfo(host, port, family, type, proto, flags):
        options = {"family": family, "type": type, "proto": proto, "flags": flags}
        given = [f"{name}={value!r}" for name, value in options.items() if value]
        question = ", ".join([f"{host}:{port!r}", *given])
        logger.debug("Get address info %s", question)
        start = loop.time()
        answer = socket.getaddrinfo(host, port, family, type, proto, flags)
        seconds = loop.time() - start
        level = logging.INFO if seconds >= loop.slow_callback_duration else logging.DEBUG
        logger.log(level, "Getting address info %s took %.3fms: %r", question, seconds * 1e3, answer)
        return answer

    return getaddrinfo


def _wait_is_for_the_child_alone():
    """Whether this CPython's Process.wait() returns when the child ends, as from 3.14 on and in late releases of 3.12 and
    3.13, or only when its pipes are closed as well. The release notes do not tell a program; the method's code does."""
    process_exited = getattr(base_subprocess.BaseSubprocessTransport, "_process_exited", None)
    return "_exit_waiters" in process_exited.__code__.co_names if process_exited else True


WAIT_IS_FOR_THE_CHILD_ALONE = _wait_is_for_the_child_alone()


# What asyncio's locks do when a waiter is cancelled that has just been woken has changed within 3.12 and 3.13: ask the code,
# not the version.
SEMAPHORE_WAKES_ALL = asyncio.Semaphore()._wake_up_next() is False
CONDITION_NOTIFIES_AGAIN = hasattr(asyncio.Condition, "_notify")


def log_subprocess(command, shell, streams):
    """Debug mode: a child is about to be started. Not its arguments, which may be secret, but where its streams lead."""
    lines = [f"run shell command {command!r}" if shell else f"execute program {command[0]!r}"]
    lines += [f"{name}={_stream(streams[name])}" for name in ("stdin", "stdout", "stderr") if streams[name] is not None]
    logger.debug(" ".join(lines))


def _stream(where):
    names = {subprocess.PIPE: "<pipe>", subprocess.STDOUT: "<stdout>", subprocess.DEVNULL: "<devnull>"}
    return names.get(where, repr(where)) if isinstance(where, int) else repr(where)


def remove_stale_socket(path):
    """Remove the socket file that a former process has left at ``path``, if there is one."""
    if path[0] in (0, "\x00"):
        return
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.error("Unable to check or remove stale UNIX socket %r: %r", path, error)


def log_datagram_endpoint(local_addr, remote_addr, transport, protocol):
    if local_addr:
        text = "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)"
        logger.info(text, local_addr, remote_addr, transport, protocol)
    else:
        logger.debug("Datagram endpoint remote_addr=%r created: (%r, %r)", remote_addr, transport, protocol)


def warn_outside_asyncio(message):
    """Warn in the name of the first caller who is neither ferrio nor asyncio."""
    inside = (str(Path(__file__).parent), str(Path(asyncio.__file__).parent))
    warnings.warn(message, DeprecationWarning, skip_file_prefixes=inside)


def deepen(loop, deep):
    """The level deep begins or ends (called by the loop, between two turns)."""
    from .flight import deep as module

    (module.begin if deep else module.end)(loop)


#: What `live.snapshot` needs, in the order in which it does: no two of them are imported at one time.
_for_snapshots = [
    "json", "termios", "ast", "linecache", "gc", "ferrio.explain.copies", "ferrio.explain.places",
    "ferrio.explain.waits", "ferrio.live.resources", "ferrio.live.stands", "ferrio.live.listing", "ferrio.live.timers",
    "ferrio.live.tasks", "ferrio.live.snapshot",
]  # fmt: skip


def write_snapshot(loop):
    """Go on with leaving in the process's page what everything in the loop waits for. True if there is more to do.

    Called by the loop, between two turns; so that these are not far apart, modules are imported one after the other.
    """
    while _for_snapshots:
        name = _for_snapshots.pop(0)
        if name not in sys.modules:
            with contextlib.suppress(ModuleNotFoundError):  # termios, which not every system has
                importlib.import_module(name)
            return True
    from .live import snapshot

    return snapshot.write(loop)
