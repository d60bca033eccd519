"""The bounded output of one subscriber."""

from __future__ import annotations

import errno
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from pinghub.limits import Limits
from pinghub.outbox import PIECE, Outbox, TotalBacklog
from pinghub.sweep import Sweep
from pinghub.testing import MemoryReactor, MemoryTransport


class Owner:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def overflowed(self, everyone: bool) -> None:
        self.told.append({True: "total", False: "own"}[everyone])

    def stalled(self) -> None:
        self.told.append("stalled")

    def broken(self) -> None:
        self.told.append("broken")


def raising(error: OSError) -> Callable[[bytes], int]:
    """A ``send`` that fails."""

    def send(data: bytes) -> int:
        raise error

    return send


class Line:
    """An outbox with its transport, of which a peer reads."""

    def __init__(self, tests: OutboxTests, room: int | None, direct: bool) -> None:
        self.transport = MemoryTransport(tests.reactor, room)
        self.transport.protocol = self
        self.owner = Owner()
        self.outbox = Outbox(
            self.transport,
            self.transport if direct else None,
            self.owner,
            tests.limits,
            tests.sweep,
            tests.total,
        )
        self._reactor = tests.reactor

    def connectionLost(self, reason: object) -> None:
        """As protocols do."""

    def read(self, size: int) -> bytes:
        """Read some of what has arrived."""
        data = bytes(self.transport.sent[:size])
        del self.transport.sent[:size]
        self._reactor.turn()
        return data

    def read_all(self) -> bytes:
        """Read until nothing comes any more."""
        data = b""
        while self.transport.sent:
            data += self.read(len(self.transport.sent))
        return data


class OutboxTests(SynchronousTestCase):
    """Outboxes with small bounds."""

    limits = Limits(
        max_message=1024, max_backlog=100_000, max_total_backlog=250_000, stall_timeout=10.0
    )

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.sweep = Sweep(self.reactor, lambda text, error: self.fail(f"{text}: {error}"))
        self.total = TotalBacklog(self.limits.max_total_backlog)

    def line(self, room: int | None = None, direct: bool = True) -> Line:
        """An outbox whose peer's kernel takes ``room`` bytes."""
        return Line(self, room, direct)

    def run_for(self, seconds: float) -> None:
        """Let time pass as a reactor does that is never late."""
        self.reactor.pump([0.25] * round(seconds * 4))


class DirectTests(OutboxTests):
    """While nothing waits."""

    def test_straight_to_the_socket(self) -> None:
        """Bytes go to the socket at once, and nothing is registered anywhere."""
        line = self.line()
        line.outbox.send(b"hello")
        self.assertEqual(bytes(line.transport.sent), b"hello")
        self.assertIsNone(line.transport.producer)
        self.assertEqual((line.outbox.size, len(self.sweep), len(self.total)), (0, 0, 0))
        self.assertIs(line.outbox.waiting, False)

    def test_without_a_direct_way(self) -> None:
        """Under TLS everything goes through the transport's own writing."""
        line = self.line(direct=False)
        line.outbox.send(b"one")
        self.assertEqual(bytes(line.transport.sent), b"")
        line.outbox.send(b"two")
        self.reactor.turn()
        self.assertEqual(line.read_all(), b"onetwo")
        self.assertIs(line.outbox.waiting, False)

    def test_start_waits_for_what_others_wrote(self) -> None:
        """The first bytes do not overtake what was written to the transport before."""
        line = self.line()
        line.transport.write(b"an answer, ")
        line.outbox.start(b"the handshake, ")
        line.outbox.send(b"a message")
        self.reactor.turn()
        self.assertEqual(line.read_all(), b"an answer, the handshake, a message")
        line.outbox.send(b"!")
        self.assertEqual(bytes(line.transport.sent), b"!")

    def test_a_connection_that_is_gone(self) -> None:
        """A write that finds the connection lost tells the owner, once."""
        line = self.line()
        line.transport.broken = True
        line.outbox.send(b"x")
        line.outbox.send(b"y")
        self.assertEqual(line.owner.told, ["broken"])

    def test_a_kernel_without_memory(self) -> None:
        """A kernel that has no buffer left now has one later, as one that would block."""
        for error in (BlockingIOError(errno.EAGAIN, ""), OSError(errno.ENOBUFS, "")):
            line = self.line()
            self.patch(line.transport, "send", raising(error))
            line.outbox.send(b"x")
            self.assertEqual((line.outbox.size, line.owner.told), (1, []))

    def test_a_connection_that_breaks_later(self) -> None:
        """What waits is lost with the connection, and the owner learns it from the transport."""
        line = self.line(room=1)
        line.outbox.send(b"xyz")
        line.transport.broken = True
        line.read(1)
        self.assertTrue(line.transport.disconnected)
        self.assertEqual((line.outbox.size, line.owner.told), (0, []))


class BacklogTests(OutboxTests):
    """What the kernel does not take."""

    def test_order_and_completeness(self) -> None:
        """Everything arrives in order, however little the peer reads at a time."""
        line = self.line(room=1000)
        sent = b""
        for number in range(60):
            data = bytes([number]) * (17 * number)
            sent += data
            line.outbox.send(data)
        self.assertTrue(line.outbox.waiting)
        received = b""
        while len(received) < len(sent):
            received += line.read(333)
        self.assertEqual(received, sent)
        self.assertFalse(line.outbox.waiting)
        self.assertEqual((line.outbox.size, self.total.size, len(self.total)), (0, 0, 0))
        self.assertEqual(len(self.sweep), 0)
        line.outbox.send(b"direct again")
        self.assertEqual(line.read_all(), b"direct again")

    def test_a_second_backlog(self) -> None:
        """A backlog after one that was read to its end is kept and counted like the first."""
        line = self.line(room=4)
        for _ in range(3):
            line.outbox.send(b"12345678")
            self.assertEqual((line.outbox.size, self.total.size, len(self.total)), (4, 4, 1))
            self.assertEqual(line.read_all(), b"12345678")
            self.assertEqual((line.outbox.size, self.total.size, len(self.total)), (0, 0, 0))

    def test_a_large_write_is_lent_in_pieces(self) -> None:
        """The transport holds a copy of one piece at most; the rest stays shared."""
        line = self.line(room=0)
        data = b"x" * (2 * PIECE + 5)
        line.outbox.send(data)
        self.assertEqual(line.outbox.size, len(data))
        self.assertLessEqual(len(line.transport.dataBuffer) + line.transport._tempDataLen, PIECE)
        line.transport.room = None
        self.reactor.turn()
        self.assertEqual(line.read_all(), data)

    def pieces(self, line: Line) -> list[int]:
        """The sizes of the pieces in which a peer that reads again is sent what waits."""
        line.transport.room = None
        pieces: list[int] = []
        write = line.transport.write

        def count_and_write(data: bytes) -> None:
            pieces.append(len(data))
            write(data)

        self.patch(line.transport, "write", count_and_write)
        self.reactor.turn()
        return pieces

    def test_small_writes_are_joined(self) -> None:
        """Many small messages that wait are lent together, not one by one."""
        line = self.line(room=0)
        for _ in range(100):
            line.outbox.send(b"x" * 100)
        self.assertEqual(self.pieces(line), [9_900])
        self.assertEqual(line.read_all(), b"x" * 10_000)

    def test_joined_writes_fill_a_piece(self) -> None:
        """As many small messages are lent together as fit into a piece, and no more."""
        line = self.line(room=0)
        for _ in range(70):
            line.outbox.send(b"x" * 1024)
        self.assertEqual(self.pieces(line), [PIECE, PIECE, 5 * 1024])
        self.assertEqual(line.read_all(), b"x" * 70 * 1024)

    def test_queued_counts_what_ever_waited(self) -> None:
        """``queued`` grows by what had to wait, so that positions can be told."""
        line = self.line(room=4)
        line.outbox.send(b"12345678")
        self.assertEqual((line.outbox.queued, line.outbox.size), (4, 4))
        line.outbox.send(b"9")
        self.assertEqual((line.outbox.queued, line.outbox.size), (5, 5))
        self.assertEqual(line.read_all(), b"123456789")
        self.assertEqual((line.outbox.queued, line.outbox.size), (5, 0))


class BoundTests(OutboxTests):
    """What happens at each bound."""

    def test_backlog(self) -> None:
        """Bytes waiting for one subscriber: at the bound it is evicted."""
        line = self.line(room=0)
        line.outbox.send(b"x" * 100_000)
        self.assertEqual(line.owner.told, [])
        line.outbox.send(b"x")
        self.assertEqual(line.owner.told, ["own"])
        line.outbox.send(b"x")
        self.assertEqual((line.outbox.size, self.total.size, len(self.sweep)), (0, 0, 0))
        self.assertEqual(line.owner.told, ["own"])

    def test_one_message_over_the_bound(self) -> None:
        """A single write over the bound is not even begun."""
        line = self.line(room=0)
        line.outbox.send(b"x" * 100_001)
        self.assertEqual(line.owner.told, ["own"])
        self.assertIsNone(line.transport.producer)

    def test_stall(self) -> None:
        """Stalled for 10 s with anything pending: evicted."""
        line = self.line(room=1)
        line.outbox.send(b"xyz")
        self.run_for(9.5)
        self.assertEqual(line.owner.told, [])
        self.run_for(1.5)
        self.assertEqual(line.owner.told, ["stalled"])
        self.assertEqual((line.outbox.size, self.total.size), (0, 0))

    def test_progress_is_no_stall(self) -> None:
        """A slow reader that takes a piece now and then stays."""
        line = self.line(room=PIECE)
        line.outbox.send(b"x" * 3 * PIECE)
        for _ in range(3):
            self.run_for(8)
            line.read(PIECE)
        self.run_for(20)
        self.assertEqual(line.owner.told, [])

    def test_all_together(self) -> None:
        """Bytes waiting for all subscribers together: the largest are evicted first."""
        lines = [self.line(room=0) for _ in range(5)]
        for number, line in enumerate(lines):
            line.outbox.send(b"x" * (40_000 + 5_000 * number))
        self.assertEqual(self.total.size, 250_000)
        lines[0].outbox.send(b"x")
        self.assertEqual([line.owner.told for line in lines], [[], [], [], [], ["total"]])
        self.assertEqual(self.total.size, 190_001)
        self.assertEqual(len(self.total), 4)

    def test_the_one_that_brought_it_over(self) -> None:
        """The subscriber whose bytes reach the common bound may be the largest itself."""
        small = [self.line(room=0) for _ in range(3)]
        for line in small:
            line.outbox.send(b"x" * 60_000)
        large = self.line(room=0)
        large.outbox.send(b"x" * 75_000)
        self.assertEqual(large.owner.told, ["total"])
        self.assertIsNone(large.transport.producer)
        self.assertEqual([line.owner.told for line in small], [[], [], []])

    def test_a_sixteenth_is_freed(self) -> None:
        """No more are evicted than it takes to free a sixteenth of the common bound."""
        for size, evicted in ((74_390, 1), (74_391, 2)):
            # 234 390 bytes may stay: the bound less its sixteenth in whole bytes.
            self.total = TotalBacklog(250_015)
            lines = [self.line(room=0) for _ in range(4)]
            for line, waiting in zip(lines, (80_000, 80_000, size, 90_000), strict=True):
                line.outbox.send(b"x" * waiting)
            self.assertEqual(sum(line.owner.told == ["total"] for line in lines), evicted)


class EndTests(OutboxTests):
    """Finishing and closing."""

    def test_finish_when_nothing_waits(self) -> None:
        """An idle outbox is finished at once, and takes nothing more."""
        line, ended = self.line(), []
        line.outbox.finish(lambda: ended.append(True))
        self.assertEqual(ended, [True])
        line.outbox.send(b"late")
        self.assertEqual(line.read_all(), b"")

    def test_finish_behind_a_backlog(self) -> None:
        """A backlog is sent to its end before an outbox is finished."""
        line, ended = self.line(room=3), []
        line.outbox.send(b"abcdef")
        line.outbox.finish(lambda: ended.append(bytes(line.transport.sent)))
        self.assertEqual(ended, [])
        self.assertEqual(line.read(3), b"abc")
        self.assertEqual(ended, [b"def"])

    def test_finish_after_close(self) -> None:
        """A closed outbox never finishes."""
        line, ended = self.line(), []
        line.outbox.close()
        line.outbox.finish(lambda: ended.append(True))
        self.assertEqual(ended, [])

    def test_close_while_finishing(self) -> None:
        """Nothing is called and nothing counted after a backlog was dropped."""
        line, ended = self.line(room=0), []
        line.outbox.send(b"abc")
        line.outbox.finish(lambda: ended.append(True))
        line.outbox.close()
        line.outbox.close()
        line.transport.room = None
        self.reactor.turn()
        self.assertEqual((ended, self.total.size, len(self.sweep)), ([], 0, 0))

    def test_a_lost_connection(self) -> None:
        """When the transport stops its producer, what waits is forgotten."""
        line = self.line(room=0)
        line.outbox.send(b"abc")
        line.outbox.stopProducing()
        self.assertEqual((line.outbox.size, self.total.size, len(self.sweep)), (0, 0, 0))
        self.assertEqual(line.owner.told, [])

    def test_start_after_close(self) -> None:
        """A closed outbox takes no first bytes either, and counts none."""
        line = self.line()
        line.outbox.close()
        line.outbox.start(b"late")
        self.reactor.turn()
        self.assertEqual((line.read_all(), line.outbox.size, self.total.size), (b"", 0, 0))
