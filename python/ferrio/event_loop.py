"""``EventLoop``: the class that users see. The native half is ``ferrio._ferrio.Loop``.

Here is what runs once per program or once per error: closing, exception handlers, the default executor, async
generators' hooks. What runs per callback, per packet or per await is native.
"""

import asyncio
import concurrent.futures
import os
import socket
import sys
import threading
import traceback
import warnings
import weakref
from asyncio import base_events, coroutines

from . import _loops, _task_steps, connecting, sendfile, servers
from ._ferrio import Loop
from ._helpers import check_callback
from .coroutine_functions import coroutine_function
from .executors import DefaultExecutor
from .live.offering import offer


class _Computed:
    """An attribute that is computed at each look and may be replaced (a property may not)."""

    def __init__(self, compute):
        self._compute = compute

    def __get__(self, loop, owner=None):
        return self if loop is None else self._compute(loop)


class EventLoop(Loop, asyncio.AbstractEventLoop):
    """asyncio's event loop, in Rust.

    A loop belongs to the thread that runs it. From other threads call ``call_soon_threadsafe()``; ``call_soon()``
    works too, through the same inbox.

    With ``clock="virtual"`` time jumps to the next timer whenever there is nothing else to do, so that an hour of
    sleeping takes a moment. It stands still while a thread of an executor or a child process works, and does not wait
    for peers outside of the program. ``time.monotonic()`` knows nothing of it; ``loop.time()`` does.

    ``spin``, which may be changed at any time, is how long the loop goes on asking for news before it sleeps, in
    seconds. Some 20 microseconds shorten the answers of a server with one busy connection or few, and keep a CPU busy
    that long whenever the loop has nothing to do. From 0, not at all, to 0.1.
    """

    #: For tools that look into asyncio's loop: which descriptors are watched, and by which handles.
    _selector = _Computed(Loop._watched_descriptors)
    _closed = property(Loop.is_closed)

    # Here because close() needs them, also of a loop whose __init__() has failed.
    #: Whether slow steps are reported without debug mode.
    _is_watched = False
    _default_executor = None

    def __init__(self, *, clock="real", spin=0.0):
        super().__init__(clock=clock, spin=spin)
        self._slow_callback_duration = 0.1
        self._exception_handler = None
        self._executor_shutdown_called = False
        self._asyncgens = weakref.WeakSet()
        self._asyncgens_shutdown_called = False
        # For those who look at this process: executors besides the default one, and how many errors nobody received.
        self._executors = weakref.WeakSet()
        self._errors = 0
        offer()
        # Debug mode: the handle being run, whose origin the default exception handler shows.
        self._current_handle = None
        self.set_debug(_debug_by_default())
        _loops.by_number[self._number] = self
        if slow := os.environ.get("FERRIO_SLOW_STEPS"):
            self.slow_callback_duration = _seconds(slow)

    @property
    def slow_callback_duration(self):
        """Callbacks and steps that take this long or longer, in seconds, are logged: in debug mode when they are over, as
        asyncio does; and once a program has set it, without debug mode, while they hold the loop up, with the stack.
        """
        return self._slow_callback_duration

    @slow_callback_duration.setter
    def slow_callback_duration(self, seconds):
        from .observe import slow

        self._slow_callback_duration = seconds
        self._is_watched = slow.watch_loop(self, seconds)

    def __repr__(self):
        return f"<{type(self).__name__} running={self.is_running()} closed={self.is_closed()} debug={self.get_debug()}>"

    def __del__(self, _warn=warnings.warn):
        if not self.is_closed():
            _warn(f"unclosed event loop {self!r}", ResourceWarning, source=self)
            if not self.is_running():
                self.close()

    def close(self):
        """Forget everything that waits and give all descriptors back. The loop must not be running."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        if self.get_debug():
            base_events.logger.debug("Close %r", self)
        self._close()
        if self._is_watched:
            from .observe import slow

            self._is_watched = slow.watch_loop(self, None)
        self._executor_shutdown_called = True
        executor, self._default_executor = self._default_executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    # --- errors ------------------------------------------------------------------------------------------------------

    def get_exception_handler(self):
        """The handler set with set_exception_handler(), or None."""
        return self._exception_handler

    def set_exception_handler(self, handler):
        """Have ``handler(loop, context)`` called for errors that nobody else can receive; None for the default."""
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def default_exception_handler(self, context):
        """Log the error to the ``asyncio`` logger, with everything the context says."""
        exception = context.get("exception")
        if "source_traceback" not in context and self._current_handle is not None:
            origin = self._current_handle._source_traceback
            if origin:
                context["handle_traceback"] = origin
        lines = [context.get("message") or "Unhandled exception in event loop"]
        for key in sorted(context.keys() - {"message", "exception"}):
            lines.append(f"{key}: {_describe(key, context[key])}")
        base_events.logger.error(
            "\n".join(lines),
            exc_info=False if exception is None else (type(exception), exception, exception.__traceback__),
        )

    def call_exception_handler(self, context):
        """Call the exception handler with a dict: message, exception, and what else is known (handle, task, …)."""
        self._errors += 1
        if self._exception_handler is None:
            self._call_default_handler(context, "Exception in default exception handler")
            return
        try:
            run_context = _context_of(context)
            if run_context is None:
                self._exception_handler(self, context)
            else:
                run_context.run(self._exception_handler, self, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._call_default_handler(
                {"message": "Unhandled error in exception handler", "exception": error, "context": context},
                "Exception in default exception handler while handling an unexpected error in custom exception handler",
            )

    def _call_default_handler(self, context, on_failure):
        # A subclass may have a default handler of its own, and that may fail.
        try:
            self.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            base_events.logger.error(on_failure, exc_info=True)

    # --- executors ---------------------------------------------------------------------------------------------------

    def run_in_executor(self, executor, func, *args):
        """Call ``func(*args)`` in a thread of ``executor`` (None: the default one). Returns a future."""
        self._check_closed()
        if self.get_debug():
            check_callback(func, "run_in_executor")
        if executor is None:
            executor = self._default_executor
            self._check_default_executor()
            if executor is None:
                executor = self._default_executor = DefaultExecutor(thread_name_prefix="asyncio")
        if type(executor) is DefaultExecutor:
            work, future = self._make_work(func, args)
            executor.start(work)
        else:
            job = executor.submit(func, *args)
            if isinstance(executor, concurrent.futures.Executor):
                self._executors.add(executor)
            # That of an executor that is none is one of asyncio's, or nonsense.
            is_executors = isinstance(job, concurrent.futures.Future)
            future = self._follow(job) if is_executors else asyncio.wrap_future(job, loop=self)
        if self._clock_is_virtual:
            self._hold_clock()
            future.add_done_callback(self._let_clock_go)
        return future

    def set_default_executor(self, executor):
        """Use this ThreadPoolExecutor for ``run_in_executor(None, …)``."""
        if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            raise TypeError(f"executor must be ThreadPoolExecutor instance, got {executor!r}")
        self._default_executor = executor

    def _check_default_executor(self):
        if self._executor_shutdown_called:
            raise RuntimeError("Executor shutdown has been called")

    async def shutdown_default_executor(self, timeout=None):
        """Wait until the default executor's threads have ended, at most ``timeout`` seconds (None: no limit)."""
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is None:
            return
        future = self.create_future()
        thread = threading.Thread(target=self._join_executor, args=(executor, future))
        thread.start()
        if self._clock_is_virtual:
            self._hold_clock()
            future.add_done_callback(self._let_clock_go)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            warnings.warn(
                f"The executor did not finishing joining its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )
            executor.shutdown(wait=False)
        else:
            thread.join()

    def _join_executor(self, executor, future):
        try:
            executor.shutdown(wait=True)
            outcome = future.set_result, None
        except Exception as error:
            outcome = future.set_exception, error
        if not self.is_closed():
            self.call_soon_threadsafe(_settle, future, *outcome)

    # --- connections -------------------------------------------------------------------------------------------------

    async def create_connection(
        self,
        protocol_factory,
        host=None,
        port=None,
        *,
        ssl=None,
        family=0,
        proto=0,
        flags=0,
        sock=None,
        local_addr=None,
        server_hostname=None,
        ssl_handshake_timeout=None,
        ssl_shutdown_timeout=None,
        happy_eyeballs_delay=None,
        interleave=None,
        all_errors=False,
    ):
        """Connect to host and port (or use the connected socket sock) and talk over it with a protocol.

        Returns (transport, protocol).
        """
        if ssl and server_hostname is None:
            if not host:
                raise ValueError("You must set server_hostname when using ssl without a host")
            server_hostname = host
        connecting.check_tls(ssl, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            connecting.check_plain(sock)
        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            sock = await connecting.connect(
                self,
                host,
                port,
                family=family,
                proto=proto,
                flags=flags,
                local_addr=local_addr,
                happy_eyeballs_delay=happy_eyeballs_delay,
                interleave=interleave,
                all_errors=all_errors,
            )
        elif sock is None:
            raise ValueError("host and port was not specified and no sock specified")
        else:
            connecting.check_stream(sock)
            sock.setblocking(False)
        return await connecting.talk(
            self, protocol_factory, sock, ssl, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
        )

    async def create_unix_connection(
        self,
        protocol_factory,
        path=None,
        *,
        ssl=None,
        sock=None,
        server_hostname=None,
        ssl_handshake_timeout=None,
        ssl_shutdown_timeout=None,
    ):
        """Connect to a Unix socket's path (or use the connected socket sock). Returns (transport, protocol)."""
        if ssl and server_hostname is None:
            raise ValueError("you have to pass server_hostname when using ssl")
        connecting.check_tls(ssl, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            connecting.check_plain(sock)
        sock = await connecting.connect_unix(self, path, sock)
        return await connecting.talk(
            self, protocol_factory, sock, ssl, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
        )

    async def connect_accepted_socket(
        self, protocol_factory, sock, *, ssl=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None
    ):
        """Talk with a protocol over a connection that was accepted elsewhere. Returns (transport, protocol)."""
        connecting.check_stream(sock)
        connecting.check_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        connecting.check_plain(sock)
        sock.setblocking(False)
        return await connecting.talk(
            self, protocol_factory, sock, ssl, None, ssl_handshake_timeout, ssl_shutdown_timeout, server_side=True
        )

    # --- servers -----------------------------------------------------------------------------------------------------

    async def create_server(
        self,
        protocol_factory,
        host=None,
        port=None,
        *,
        family=socket.AF_UNSPEC,
        flags=socket.AI_PASSIVE,
        sock=None,
        backlog=100,
        ssl=None,
        reuse_address=None,
        reuse_port=None,
        keep_alive=None,
        ssl_handshake_timeout=None,
        ssl_shutdown_timeout=None,
        start_serving=True,
    ):
        """Listen on host (a name, several, or None for all) and port, or on ``sock``. Returns a ``Server``."""
        self._check_closed()
        return await servers.create_server(
            self,
            protocol_factory,
            host,
            port,
            family=family,
            flags=flags,
            sock=sock,
            backlog=backlog,
            ssl=ssl,
            reuse_address=reuse_address,
            reuse_port=reuse_port,
            keep_alive=keep_alive,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            start_serving=start_serving,
        )

    async def create_unix_server(
        self,
        protocol_factory,
        path=None,
        *,
        sock=None,
        backlog=100,
        ssl=None,
        ssl_handshake_timeout=None,
        ssl_shutdown_timeout=None,
        start_serving=True,
        cleanup_socket=sys.version_info >= (3, 13),
    ):
        """Listen on a Unix socket's path, or on ``sock``. Returns a ``Server``."""
        self._check_closed()
        return await servers.create_unix_server(
            self,
            protocol_factory,
            path,
            sock=sock,
            backlog=backlog,
            ssl=ssl,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            start_serving=start_serving,
            cleanup_socket=cleanup_socket,
        )

    # --- what is native and awaited ----------------------------------------------------------------------------------

    # Not sock_recv() and its like, which move bytes: there the coroutine between takes 8 to 12 % of an echo.
    connect_read_pipe = coroutine_function(Loop.connect_read_pipe)
    connect_write_pipe = coroutine_function(Loop.connect_write_pipe)
    create_datagram_endpoint = coroutine_function(Loop.create_datagram_endpoint)
    getaddrinfo = coroutine_function(Loop.getaddrinfo)
    getnameinfo = coroutine_function(Loop.getnameinfo)
    sock_accept = coroutine_function(Loop.sock_accept)
    sock_connect = coroutine_function(Loop.sock_connect)
    sock_sendfile = coroutine_function(Loop.sock_sendfile)
    start_tls = coroutine_function(Loop.start_tls)
    subprocess_exec = coroutine_function(Loop.subprocess_exec)
    subprocess_shell = coroutine_function(Loop.subprocess_shell)

    # --- files -------------------------------------------------------------------------------------------------------

    async def sendfile(self, transport, file, offset=0, count=None, *, fallback=True):
        """Send ``count`` bytes (None: all) of a file opened in binary mode, from ``offset``. Returns how many."""
        return await sendfile.sendfile(self, transport, file, offset, count, fallback)

    async def _sendfile_native(self, transport, file, offset, count):
        return await sendfile.by_kernel(self, transport, file, offset, count)

    def _stop_serving(self, sock):
        # asyncio's own Server, and whoever plays one, closes its sockets by this.
        self.remove_reader(sock.fileno())
        sock.close()

    # --- async generators --------------------------------------------------------------------------------------------

    def _asyncgen_firstiter_hook(self, generator):
        if self._asyncgens_shutdown_called:
            warnings.warn(
                f"asynchronous generator {generator!r} was scheduled after loop.shutdown_asyncgens() call",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )
        self._asyncgens.add(generator)

    def _asyncgen_finalizer_hook(self, generator):
        self._asyncgens.discard(generator)
        if not self.is_closed():
            self.call_soon_threadsafe(self.create_task, generator.aclose())

    async def shutdown_asyncgens(self):
        """Close all living async generators."""
        self._asyncgens_shutdown_called = True
        generators = list(self._asyncgens)
        self._asyncgens.clear()
        results = await asyncio.gather(*[generator.aclose() for generator in generators], return_exceptions=True)
        for generator, result in zip(generators, results):
            if isinstance(result, Exception):
                self.call_exception_handler(
                    {
                        "message": f"an error occurred during closing of asynchronous generator {generator!r}",
                        "exception": result,
                        "asyncgen": generator,
                    }
                )


def new_event_loop():
    """A new loop: what every ``loop_factory`` parameter wants."""
    return EventLoop()


def _seconds(text):
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"FERRIO_SLOW_STEPS must be a number of seconds, got {text!r}") from None


def _settle(future, setter, value):
    if not future.done():
        setter(value)


def _describe(key, value):
    if key in {"source_traceback", "handle_traceback"}:
        what = "Object" if key == "source_traceback" else "Handle"
        stack = "".join(traceback.format_list(value)).rstrip()
        return f"{what} created at (most recent call last):\n{stack}"
    return repr(value)


def _context_of(situation):
    """The contextvars.Context in which to run the exception handler: that of what failed (since 3.12)."""
    if sys.version_info < (3, 12):
        return None
    for key in ("task", "future", "handle"):
        failed = situation.get(key)
        if failed is not None:
            # A plain future has none, and a handle may have been given something else.
            context = failed.get_context() if hasattr(failed, "get_context") else None
            return context if hasattr(context, "run") else None
    return None


def _debug_by_default():
    return coroutines._is_debug_mode()


_task_steps.introduce(EventLoop)
