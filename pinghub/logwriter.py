"""A log stream that cannot block the server.

A pipe that nobody drains, or a disk that hangs, blocks whoever writes to it. Here a thread of its
own writes, and the server only puts lines in a queue.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import threading
from typing import TextIO


class Unbuffered:
    """Writes text to a descriptor, with no buffer in between.

    Python flushes its own streams when it ends, and waits for whoever writes to them: a blocked
    pipe would keep the process from ending.

    Args:
        descriptor: where to write to.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> None:
        """Write all of it, however long that takes."""
        data = text.encode(errors="backslashreplace")
        while data:
            data = data[os.write(self._descriptor, data) :]

    def flush(self) -> None:
        """Nothing waits."""


def unbuffered(stream: TextIO) -> TextIO | Unbuffered:
    """The descriptor below a stream, if it has one."""
    try:
        return Unbuffered(stream.fileno())
    except OSError:
        return stream


class LogFile(Unbuffered):
    """Appends text to a file, and opens it anew when it is told to.

    Args:
        path: the file; it is made if it is not there, for its owner and group to read.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._stale = False
        super().__init__(self._open())

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def reopen(self) -> None:
        """Open the file of that name before the next write: somebody has moved this one."""
        self._stale = True

    def write(self, text: str) -> None:
        """Write all of it, to the old file if there cannot be a new one."""
        if self._stale:
            self._stale = False
            with contextlib.suppress(OSError):
                # Where it was, so that nobody ever finds no descriptor there.
                new = self._open()
                os.dup2(new, self._descriptor, inheritable=False)
                os.close(new)
        super().write(text)


class LogWriter(io.TextIOBase):
    """A text stream whose ``write`` returns at once.

    Bounded: at most ``most`` writes wait. Beyond that they are left out, and the next one that
    finds room says how many.

    Args:
        stream: where a thread writes to.
        most: the bound, such as ``Limits.log_queue``.
    """

    def __init__(self, stream: TextIO | Unbuffered, most: int) -> None:
        self._stream = stream
        self._queue: queue.Queue[str | None] = queue.Queue(most)
        self._left_out = 0
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> int:
        """Let the thread write this, if it is not too far behind."""
        if self._thread is None or not self._thread.is_alive():
            # Not before: twistd forks, and threads stay behind.
            # A daemon: a stream that stays blocked must not keep the process from ending.
            self._thread = threading.Thread(target=self._pass_on, name="log", daemon=True)
            self._thread.start()
        more = f"{self._left_out} log lines were left out here\n" if self._left_out else ""
        try:
            self._queue.put_nowait(more + text)
        except queue.Full:
            self._left_out += 1
        else:
            self._left_out = 0
        return len(text)

    def flush(self) -> None:
        """Nothing: the thread flushes."""

    def reopen(self) -> None:
        """Let the thread open its file anew, if it has one."""
        if isinstance(self._stream, LogFile):
            self._stream.reopen()
            self.write("")

    def finish(self, seconds: float = 1.0) -> None:
        """Wait until everything is written, but no longer than this."""
        if self._thread is None:
            return
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=seconds)
            self._thread.join(seconds)

    def _pass_on(self) -> None:
        while (text := self._queue.get()) is not None:
            # Whatever is wrong with the stream, the server goes on without a log.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()
