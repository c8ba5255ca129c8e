"""asyncio's task groups, native. What they do is in ``crates/ferrio-python/src/tasks``; here is the class that users see."""

import asyncio
import contextlib
import sys

from . import _ferrio
from ._native import Native, stands_for

__all__ = ["TaskGroup"]

#: What ``__aexit__`` returns if it raises nothing: what ``cancel()`` has brought about ends here.
_SUPPRESS = True


@stands_for(asyncio.TaskGroup)
class TaskGroup(_ferrio.TaskGroup, asyncio.TaskGroup, metaclass=Native):
    __slots__ = ()

    async def __aenter__(self):
        if not self._enter():
            # asyncio says why.
            await super().__aenter__()
        return self

    if sys.version_info >= (3, 13):

        async def __aexit__(self, et, exc, tb):
            # Quick if nothing fails. If something does, asyncio's own method sees to it.
            if et is None:
                while (waiter := self._leave()) is not None:
                    try:
                        await _aexit(waiter)
                    except asyncio.CancelledError as error:
                        # As if it had come before the end of the block.
                        et, exc = type(error), error
                        self._on_completed_fut = None
                        if not self._aborting:
                            break
                if et is None and self._left():
                    return _SUPPRESS
            try:
                await super().__aexit__(et, exc, tb)
            finally:
                # No cycle of an exception, its traceback and this frame.
                exc = tb = None
            # What should be raised was raised; what is left is a cancellation by `cancel()`.
            return _SUPPRESS

    else:

        async def __aexit__(self, et, exc, tb):
            # asyncio's groups of these versions count the cancellations of their parent in another way, which the quick
            # way would change; and they know nothing of `cancel()`, which they take for a failure without an error.
            parent, requested = self._parent_task, self._parent_cancel_requested
            remaining = 0
            try:
                await super().__aexit__(et, exc, tb)
            finally:
                exc = tb = None
                if self._was_cancelled and not requested:
                    # It came while the group was waiting for its tasks, so nobody has taken it back yet.
                    remaining = parent.uncancel()
            if remaining:
                # Somebody else has cancelled the parent, too.
                raise parent._make_cancelled_error()
            if self._was_cancelled and parent._must_cancel and not parent.cancelling():
                # The cancellation has not reached the parent, and is not to any more.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
            return self._was_cancelled or None


async def _aexit(waiter):
    # asyncio waits in a method of this name, and a call graph shows it.
    await waiter
