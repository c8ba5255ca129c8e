"""Writing for somebody who may have had enough."""

import os


def writing(stream):
    """What writes to a stream, at once. Once nobody reads it any more (``| head``), it writes to nowhere."""

    def write(text):
        try:
            stream.write(text)
            stream.flush()
        except BrokenPipeError:
            to_nowhere(stream)

    return write


def to_nowhere(stream):
    """Whatever is written to a stream from here on, and what it still holds, is lost."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
