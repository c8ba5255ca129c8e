"""The program's own output, in its place in the story: what stands in for ``sys.stdout`` and ``sys.stderr``.

To the program they look like the originals: file number, encoding, whether it is a terminal, ``.buffer``.
"""

import io
import sys


class _Told(io.BufferedIOBase):
    """What is written here is told; once nobody listens any more it goes where it would have gone."""

    def __init__(self, original, tell):
        self._original = original
        self._tell = tell
        self._line = ""  # one that is not whole yet

    name = property(lambda self: self._original.name)
    mode = "wb"
    raw = property(lambda self: self._original.buffer.raw)

    def writable(self):
        return True

    def fileno(self):
        return self._original.fileno()

    def isatty(self):
        return self._original.isatty()

    def write(self, data):
        data = bytes(data)
        if self._tell is None:
            self._original.buffer.write(data)
            self._original.flush()
        else:
            self._line += data.decode(self._original.encoding, "replace")
            if "\n" in self._line:
                self.pass_on()
        return len(data)

    def flush(self):
        self.pass_on()

    def pass_on(self):
        line, self._line = self._line, ""
        if line:
            self._tell(line)

    def stop(self):
        self.pass_on()
        self._tell = None


class Output:
    """Has ``tell(stream, text)`` called for what the program writes, until ``close()``."""

    def __init__(self, tell):
        self._streams = []
        for name in ("stdout", "stderr"):
            original = getattr(sys, name)
            if original is None or not hasattr(original, "buffer"):
                continue
            raw = _Told(original, lambda text, name=name: tell(name, text))
            stream = io.TextIOWrapper(
                raw,
                encoding=original.encoding,
                errors=original.errors,
                line_buffering=original.line_buffering,
                write_through=True,
            )
            stream.mode = "w"
            setattr(sys, name, stream)
            self._streams.append((name, original, stream, raw))

    def pass_on(self):
        """Something else is about to be told: what was written before comes first, whole lines or not."""
        for *_, raw in self._streams:
            raw.pass_on()

    def close(self):
        """The program is over. Streams that it has kept work on."""
        for name, original, stream, raw in self._streams:
            stream.flush()
            raw.stop()
            if getattr(sys, name) is stream:
                setattr(sys, name, original)
