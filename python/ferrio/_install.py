"""``install()`` and ``uninstall()``: the only place of ferrio that changes asyncio, and only when asked."""

import asyncio
import warnings

from .event_loop import new_event_loop

_undo = []


def install():
    """Have asyncio create ferrio's loops from here on, in the whole process. uninstall() undoes it."""
    with warnings.catch_warnings():
        # Policies are deprecated since 3.14, and up to 3.15 the only process-wide way.
        warnings.simplefilter("ignore", DeprecationWarning)
        if hasattr(asyncio, "set_event_loop_policy"):
            _install_policy()
        else:
            _install_function()


def _install_policy():
    from .policy import EventLoopPolicy

    former = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(EventLoopPolicy())
    _undo.append(lambda: asyncio.set_event_loop_policy(former))


def _install_function():
    # CPython 3.16 has no policies: asyncio.run(), Runner and users call this function.
    places = (asyncio, asyncio.events)
    former = asyncio.events.new_event_loop
    for place in places:
        place.new_event_loop = new_event_loop

    def undo():
        for place in places:
            place.new_event_loop = former

    _undo.append(undo)


def uninstall():
    """Undo the last install(); nothing happens if there was none."""
    if _undo:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            _undo.pop()()
