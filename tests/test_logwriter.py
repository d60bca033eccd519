"""A log stream that cannot block the server."""

from __future__ import annotations

import io
import os
import threading

from twisted.trial.unittest import SynchronousTestCase

from pinghub.logwriter import LogWriter, Unbuffered

PATIENCE = 10.0


class Blocked(io.StringIO):
    """A stream that blocks until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.released.wait(PATIENCE)
        return super().write(text)


class Broken(io.StringIO):
    """A stream whose first write fails."""

    def write(self, text: str) -> int:
        if text == "lost\n":
            raise BrokenPipeError
        return super().write(text)


class LogWriterTests(SynchronousTestCase):
    """With real threads, which are waited for and never slept for."""

    def test_order(self) -> None:
        """Everything is written, in order."""
        stream = io.StringIO()
        writer = LogWriter(stream, 1000)
        for number in range(500):
            self.assertEqual(writer.write(f"{number}\n"), len(f"{number}\n"))
            writer.flush()
        writer.finish(PATIENCE)
        self.assertEqual(stream.getvalue().split(), [str(number) for number in range(500)])

    def test_blocked(self) -> None:
        """A blocked stream: writing returns at once; what was left out is counted."""
        stream = Blocked()
        writer = LogWriter(stream, 3)
        writer.write("first\n")
        self.assertTrue(stream.reached.wait(PATIENCE))
        for number in range(10):
            writer.write(f"{number}\n")
        stream.released.set()
        while not writer._queue.empty():
            os.sched_yield()
        writer.write("last\n")
        writer.finish(PATIENCE)
        self.assertEqual(
            stream.getvalue(), "first\n0\n1\n2\n7 log lines were left out here\nlast\n"
        )

    def test_blocked_at_the_end(self) -> None:
        """The end does not wait for a stream that stays blocked."""
        stream = Blocked()
        writer = LogWriter(stream, 1)
        writer.write("first\n")
        self.assertTrue(stream.reached.wait(PATIENCE))
        writer.finish(0.01)
        writer.finish(0.01)
        self.assertTrue(writer._thread.is_alive())
        stream.released.set()

    def test_broken(self) -> None:
        """A stream that fails costs its lines, and nothing else."""
        stream = Broken()
        writer = LogWriter(stream, 10)
        writer.write("lost\n")
        writer.write("kept\n")
        writer.finish(PATIENCE)
        self.assertEqual(stream.getvalue(), "kept\n")

    def test_a_descriptor(self) -> None:
        """All of a text reaches a descriptor, whatever characters it has."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        writer = LogWriter(Unbuffered(writing), 10)
        writer.write("Gr\u00fc\u00dfe \ud800\n")
        writer.finish(PATIENCE)
        os.close(writing)
        self.assertEqual(os.read(reading, 100), "Gr\u00fc\u00dfe \\ud800\n".encode())
