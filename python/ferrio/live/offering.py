"""What a process with a loop offers to whoever looks at it: two signals.

For the one, ``faulthandler`` writes every thread's stack, from within the signal's handler: whatever the process is
doing, and without the interpreter's lock. They go to a file beside the process's page; the page says which signal it
is. The next one does nothing, and so wakes a sleeping loop, which then sees that it was asked something.

Once per process: a file and two handlers. Whatever fails, the process has no such signals, and readers do without.
"""

import os
import signal
import sys

from .. import _ferrio

#: From here on for two signals that nobody uses. (Those before have uses in some debuggers and libraries.)
_FIRST = 7

_offered_by = None
_file = None
_number = 0


def offer():
    """Install it, if this process has not done so."""
    global _offered_by
    if _offered_by == os.getpid():
        return
    _offered_by = os.getpid()
    _ferrio.describe(f"Python {sys.version.split()[0]}")
    try:
        _install()
    except (OSError, RuntimeError, ValueError, AttributeError, ImportError):
        # No such calls there, or not allowed: then there is no such signal.
        return


def _install():
    global _file, _number
    page = _ferrio.page_path()
    if page is None:
        return
    import faulthandler

    used = _used()
    # In the child of a fork the handler is there already, and writes to its parent's file: it is registered anew.
    free = (number for number in range(signal.SIGRTMIN + _FIRST, signal.SIGRTMAX) if not used >> (number - 1) & 3)
    number = _number or next(free, 0)
    if not number:
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    former, _file = _file, os.open(page.with_suffix(".stacks"), flags, 0o600)
    _ferrio.wake_on_signal(number + 1)
    faulthandler.register(number, file=_file, all_threads=True, chain=False)
    if former is not None:
        os.close(former)
    _number = number
    _ferrio.announce_signal(number)


def _used():
    """The signals that this process catches or ignores, a bit each."""
    used = 0
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(("SigCgt:", "SigIgn:")):
                used |= int(line.split()[1], 16)
    return used
