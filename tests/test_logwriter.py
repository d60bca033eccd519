"""A log stream that cannot block the server."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pinghub.logwriter import LogFile, LogWriter, Unbuffered, unbuffered

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
        assert writer._thread is not None
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

    def test_no_thread_before_the_first_line(self) -> None:
        """Twistd forks when a writer may be there already, and threads stay behind."""
        before = threading.active_count()
        writer = LogWriter(io.StringIO(), 10)
        writer.finish()
        writer.reopen()
        self.assertEqual(threading.active_count(), before)


class UnbufferedTests(SynchronousTestCase):
    """Where the log goes."""

    def test_a_stream_with_a_descriptor(self) -> None:
        """The log goes to the descriptor of the standard error, past Python's buffers."""
        with open(os.devnull, "w") as stream:
            self.assertIsInstance(unbuffered(stream), Unbuffered)

    def test_a_stream_without(self) -> None:
        """A stream without a descriptor is written to as it is."""
        stream = io.StringIO()
        self.assertIs(unbuffered(stream), stream)


class LogFileTests(SynchronousTestCase):
    """A file that logrotate moves away."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.file = LogFile(str(self.path))
        self.addCleanup(os.close, self.file._descriptor)

    def test_appends(self) -> None:
        """What was there before stays; nobody else may read it."""
        self.file.write("first\n")
        other = LogFile(str(self.path))
        self.addCleanup(os.close, other._descriptor)
        other.write("second\n")
        self.assertEqual(self.path.read_text(), "first\nsecond\n")
        self.assertEqual(self.path.stat().st_mode & 0o027, 0)

    def test_reopen(self) -> None:
        """After it was told, lines go to a new file of that name; no descriptor is left."""
        open_before = len(os.listdir("/proc/self/fd"))
        moved = self.path.rename(self.path.with_suffix(".1"))
        self.file.write("old\n")
        self.file.reopen()
        self.file.write("new\n")
        self.assertEqual((moved.read_text(), self.path.read_text()), ("old\n", "new\n"))
        self.assertEqual(len(os.listdir("/proc/self/fd")), open_before)
        self.assertFalse(os.get_inheritable(self.file._descriptor))

    def test_no_new_file(self) -> None:
        """If there cannot be a new one, lines go to the old one, and the server goes on."""
        moved = self.path.rename(self.path.with_suffix(".1"))
        self.path.mkdir()
        self.file.reopen()
        self.file.write("old\n")
        self.assertEqual(moved.read_text(), "old\n")
        # And to a new one as soon as it is told again.
        self.path.rmdir()
        self.file.reopen()
        self.file.write("new\n")
        self.assertEqual(self.path.read_text(), "new\n")

    def test_at_once(self) -> None:
        """A writer opens it anew without waiting for a line."""
        writer = LogWriter(self.file, 10)
        self.path.unlink()
        writer.reopen()
        writer.finish(PATIENCE)
        self.assertEqual(self.path.read_text(), "")

    def test_not_writable(self) -> None:
        """What cannot be opened is told at once."""
        self.assertRaises(OSError, LogFile, f"{self.path}/below")
