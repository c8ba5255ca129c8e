"""The loops of this process, for those who look at all of them."""

import weakref

#: By the number that each has in its record.
by_number = weakref.WeakValueDictionary()


def loops():
    """The loops of this process that are not closed, in the order in which they were made."""
    living = sorted(by_number.copy().items())
    return [loop for _, loop in living if not loop.is_closed()]
