"""The default executor. What a call in it is made of is in ``crates/ferrio-python/src/event_loop/executors.rs``."""

import concurrent.futures
from concurrent.futures import thread

__all__ = ["DefaultExecutor"]


class DefaultExecutor(concurrent.futures.ThreadPoolExecutor):
    """A ThreadPoolExecutor that also takes calls for a loop as they are, without a future of their own."""

    def start(self, work):
        """Have ``work.run()`` called in a thread: ``submit()`` for what has its future already."""
        with self._shutdown_lock, thread._global_shutdown_lock:
            if self._shutdown:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if thread._shutdown:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            self._work_queue.put(work)
            # Idle threads are counted in order to know when another one is due: none is, once there are enough.
            if len(self._threads) < self._max_workers:
                self._adjust_thread_count()
