//! CPython's own objects that the loop hands out or calls, looked up once.
//!
//! Private names of asyncio that we rely on are all here, so that a new CPython breaks one file.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

/// References that live as long as the process.
pub struct Imports {
    /// `_asyncio.Future`, for what only native code sees, and `_asyncio.Task`.
    pub future: Py<PyAny>,
    pub task: Py<PyAny>,
    /// `asyncio.futures` and `asyncio.tasks`: the classes that users' futures and tasks are made of are looked up each
    /// time (8 ns), because tests and tools replace them.
    pub futures: Py<PyDict>,
    pub tasks: Py<PyDict>,
    /// `asyncio.events`: its `_set_running_loop` is looked up for each run, because tests and tools replace it.
    pub events: Py<PyModule>,
    pub cancelled_error: Py<PyAny>,
    pub incomplete_read_error: Py<PyAny>,
    pub limit_overrun_error: Py<PyAny>,
    pub ensure_future: Py<PyAny>,
    pub is_future: Py<PyAny>,
    /// `asyncio.futures._copy_future_state`: what a future's exception of `concurrent.futures` is in asyncio.
    pub copy_future_state: Py<PyAny>,
    pub convert_future_exc: Py<PyAny>,
    pub sendfile_not_available: Py<PyAny>,
    /// `asyncio.base_events._run_until_complete_cb`: anyio recognises a root task by it.
    pub run_until_complete_cb: Py<PyAny>,
    pub get_asyncgen_hooks: Py<PyAny>,
    pub set_asyncgen_hooks: Py<PyAny>,
    pub set_coroutine_origin_tracking_depth: Py<PyAny>,
    pub get_coroutine_origin_tracking_depth: Py<PyAny>,
    pub main_thread: Py<PyAny>,
    /// What handles give as their `__class__`.
    pub handle: Py<PyAny>,
    pub timer_handle: Py<PyAny>,
    pub thread_safe_handle: Py<PyAny>,
    /// `socket.socket`.
    pub socket: Py<PyAny>,
    /// `_socket.socket`, whose methods are the system calls.
    pub native_socket: Py<PyAny>,
    /// Some of them. The class cannot be changed.
    pub native_connect: Py<PyAny>,
    pub native_recv: Py<PyAny>,
    pub native_recv_into: Py<PyAny>,
    pub native_send: Py<PyAny>,
    /// `asyncio.trsock.TransportSocket`.
    pub transport_socket: Py<PyAny>,
    pub buffered_protocol: Py<PyAny>,
    /// The module `ssl`, unless this Python was built without it.
    pub ssl: Option<Py<PyModule>>,
    /// What a stream transport gives as its `__class__`.
    pub stream_transport: Py<PyAny>,
    /// What a TLS transport gives, and the protocol under it.
    pub tls_transport: Py<PyAny>,
    pub tls_protocol: Py<PyAny>,
    /// What a pipe's transports give.
    pub read_pipe_transport: Py<PyAny>,
    pub write_pipe_transport: Py<PyAny>,
    /// What a child's transport gives.
    pub subprocess_transport: Py<PyAny>,
    /// What a datagram transport gives as its `__class__`.
    pub datagram_transport: Py<PyAny>,
    /// Whether `Process.wait()` returns when the child ends, or only when its pipes are closed as well.
    pub wait_is_for_the_child_alone: bool,
    /// `asyncio.StreamReader`.
    pub stream_reader: Py<PyAny>,
    /// Whether `StreamReader.readuntil()` takes several separators: since 3.13.
    pub has_many_separators: bool,
    /// `_get_running_loop()`, which returns None if no loop runs.
    pub running_loop: Py<PyAny>,
    pub heappush: Py<PyAny>,
    pub heappop: Py<PyAny>,
    /// `__aenter__` and `__aexit__` of asyncio's locks.
    pub enter_lock: Py<PyAny>,
    pub leave_lock: Py<PyAny>,
    pub broken_barrier_error: Py<PyAny>,
    /// `asyncio.locks._BarrierState`, of which a Barrier says what it is.
    pub barrier_state: Py<PyAny>,
    /// Whether a Semaphore's waiter, when it leaves, wakes as many others as there is room for, instead of one.
    pub semaphore_wakes_all: bool,
    /// Whether a Condition's waiter that fails passes its notification on.
    pub condition_notifies_again: bool,
    /// `ferrio._helpers`: what native code says in Python because it is said rarely.
    pub helpers: Py<PyModule>,
    /// `("loop",)`: the keyword names of a call that makes a future.
    pub kw_loop: Py<PyTuple>,
}

static IMPORTS: PyOnceLock<Imports> = PyOnceLock::new();

/// The table, filled on first use.
pub fn imports(py: Python<'_>) -> PyResult<&'static Imports> {
    IMPORTS.get_or_try_init(py, || {
        // asyncio before _asyncio: on 3.11 the other order leaves `current_task()` None.
        let asyncio = py.import("asyncio")?;
        let base_events = py.import("asyncio.base_events")?;
        let native = py.import("_asyncio")?;
        let native_socket = py.import("_socket")?.getattr("socket")?;
        let sys = py.import("sys")?;
        let transports = py.import("ferrio._transports")?;
        let helpers = py.import("ferrio._helpers")?;
        let locks = py.import("asyncio.locks")?.getattr("_ContextManagerMixin")?;
        let get = |module: &Bound<'_, PyModule>, name: &str| module.getattr(name).map(Bound::unbind);
        Ok(Imports {
            future: get(&native, "Future")?,
            task: get(&native, "Task")?,
            futures: py.import("asyncio.futures")?.dict().unbind(),
            tasks: py.import("asyncio.tasks")?.dict().unbind(),
            events: py.import("asyncio.events")?.unbind(),
            cancelled_error: get(&asyncio, "CancelledError")?,
            incomplete_read_error: get(&asyncio, "IncompleteReadError")?,
            limit_overrun_error: get(&asyncio, "LimitOverrunError")?,
            ensure_future: get(&asyncio, "ensure_future")?,
            is_future: get(&asyncio, "isfuture")?,
            convert_future_exc: get(&py.import("asyncio.futures")?, "_convert_future_exc")?,
            copy_future_state: get(&py.import("asyncio.futures")?, "_copy_future_state")?,
            sendfile_not_available: get(&asyncio, "SendfileNotAvailableError")?,
            run_until_complete_cb: get(&base_events, "_run_until_complete_cb")?,
            get_asyncgen_hooks: get(&sys, "get_asyncgen_hooks")?,
            set_asyncgen_hooks: get(&sys, "set_asyncgen_hooks")?,
            set_coroutine_origin_tracking_depth: get(&sys, "set_coroutine_origin_tracking_depth")?,
            get_coroutine_origin_tracking_depth: get(&sys, "get_coroutine_origin_tracking_depth")?,
            main_thread: get(&py.import("threading")?, "main_thread")?,
            handle: get(&py.import("ferrio.handles")?, "Handle")?,
            thread_safe_handle: get(&py.import("ferrio.handles")?, "ThreadSafeHandle")?,
            timer_handle: get(&py.import("ferrio.handles")?, "TimerHandle")?,
            socket: get(&py.import("socket")?, "socket")?,
            native_connect: native_socket.getattr("connect")?.unbind(),
            native_recv: native_socket.getattr("recv")?.unbind(),
            native_recv_into: native_socket.getattr("recv_into")?.unbind(),
            native_send: native_socket.getattr("send")?.unbind(),
            native_socket: native_socket.unbind(),
            transport_socket: get(&py.import("asyncio.trsock")?, "TransportSocket")?,
            ssl: py.import("ssl").ok().map(Bound::unbind),
            buffered_protocol: get(&asyncio, "BufferedProtocol")?,
            stream_transport: get(&transports, "StreamTransport")?,
            tls_transport: get(&transports, "SSLTransport")?,
            tls_protocol: get(&transports, "SSLProtocol")?,
            datagram_transport: get(&transports, "DatagramTransport")?,
            read_pipe_transport: get(&transports, "ReadPipeTransport")?,
            write_pipe_transport: get(&transports, "WritePipeTransport")?,
            subprocess_transport: get(&transports, "SubprocessTransport")?,
            wait_is_for_the_child_alone: helpers.getattr("WAIT_IS_FOR_THE_CHILD_ALONE")?.is_truthy()?,
            running_loop: get(&native, "_get_running_loop")?,
            heappush: get(&py.import("heapq")?, "heappush")?,
            heappop: get(&py.import("heapq")?, "heappop")?,
            broken_barrier_error: get(&asyncio, "BrokenBarrierError")?,
            barrier_state: get(&py.import("asyncio.locks")?, "_BarrierState")?,
            enter_lock: locks.getattr("__aenter__")?.unbind(),
            leave_lock: locks.getattr("__aexit__")?.unbind(),
            semaphore_wakes_all: helpers.getattr("SEMAPHORE_WAKES_ALL")?.is_truthy()?,
            condition_notifies_again: helpers.getattr("CONDITION_NOTIFIES_AGAIN")?.is_truthy()?,
            stream_reader: get(&asyncio, "StreamReader")?,
            has_many_separators: py.version_info() >= (3, 13),
            helpers: helpers.unbind(),
            kw_loop: PyTuple::new(py, ["loop"])?.unbind(),
        })
    })
}
