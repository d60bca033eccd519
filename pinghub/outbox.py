"""The bounded output of one subscriber: direct write, backlog, stall clock.

Everything that goes to a subscriber, messages and control frames alike, passes its outbox, so
that frames are never cut into each other and never change their order.

While nothing waits, bytes go straight to the socket: one system call per subscriber and turn.
What the kernel does not take waits here, shared between all subscribers that wait for it, and
is handed to the transport a piece at a time as the transport asks for more (an IPullProducer).
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from pinghub.limits import Limits
from pinghub.sweep import Sweep

_TAKES_NONE = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)

PIECE = 32 * 1024
"""How many bytes are copied into the transport at a time; the rest stays shared."""


class Transport(Protocol):
    """What is needed of a Twisted transport (ITransport and IConsumer)."""

    def write(self, data: bytes) -> None:
        """Write, buffering what the kernel does not take."""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Ask the producer for more now and whenever nothing is buffered."""

    def unregisterProducer(self) -> None:
        """Stop asking."""


class Socket(Protocol):
    """What is needed of a socket that does not block."""

    def send(self, data: bytes, /) -> int:
        """Send what the kernel takes: the number of bytes.

        Raises:
            BlockingIOError: it takes none now.
            OSError: the connection is lost.
        """


class Owner(Protocol):
    """Who is told what becomes of an outbox."""

    def overflowed(self, everyone: bool) -> None:
        """The backlog is above its bound, or the largest while all backlogs are above theirs."""

    def stalled(self) -> None:
        """The peer took nothing for ``Limits.stall_timeout`` while bytes waited."""

    def broken(self) -> None:
        """The connection turned out to be lost while writing."""


class TotalBacklog:
    """The bound on what waits for all subscribers together.

    At the bound the largest backlogs are evicted first, until a sixteenth of the bound is free
    again, so that a crowd of slow readers is not sorted anew for every message.

    Bytes shared by several subscribers count once for each: the sum is what would be
    needed if nobody read any more.

    Args:
        limit: the bound, in bytes.

    Attributes:
        size: bytes that wait now.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: set[Outbox] = set()
        self.size = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def grow(self, outbox: Outbox, size: int) -> None:
        """Count bytes that began to wait; evict the largest when there are too many."""
        self._waiting.add(outbox)
        self.size += size
        if self.size > self._limit:
            self._relieve()

    def shrink(self, outbox: Outbox, size: int) -> None:
        """Count bytes that wait no longer."""
        self.size -= size
        if not outbox.size:
            self._waiting.discard(outbox)

    def _relieve(self) -> None:
        target = self._limit - self._limit // 16
        waiting = sorted(self._waiting, key=lambda each: each.size)
        while self.size > target:
            waiting.pop().overflow(everyone=True)


class Outbox:
    """The output of one subscriber.

    Bounded by ``Limits.max_backlog``: at the bound the owner is told, everything that waits is
    dropped and nothing is taken any more. The same after ``Limits.stall_timeout`` seconds in
    which the peer took nothing.

    An outbox begins as if bytes were waiting: others may have written to the transport before,
    and only the transport knows when that is through.

    Args:
        transport: where the bytes go.
        socket: what the transport writes to; None where only the transport may, as with TLS.
        owner: told when the subscriber has to be given up.
        limits: the bounds.
        sweep: keeps the stall clock.
        total: the bound shared with all other subscribers.

    Attributes:
        size: bytes that wait, those lent to the transport included.
        queued: bytes that ever had to wait.
    """

    __slots__ = (
        "_finished",
        "_lent",
        "_limits",
        "_owner",
        "_queue",
        "_socket",
        "_sweep",
        "_total",
        "_transport",
        "_waiting",
        "queued",
        "size",
    )

    def __init__(
        self,
        transport: Transport,
        socket: Socket | None,
        owner: Owner,
        limits: Limits,
        sweep: Sweep,
        total: TotalBacklog,
    ) -> None:
        self._transport = transport
        self._socket = socket
        self._owner: Owner | None = owner
        self._limits = limits
        self._sweep = sweep
        self._total = total
        self._queue: deque[bytes | memoryview] | None = None
        self._lent = 0
        self._waiting = False
        self._finished: Callable[[], None] | None = None
        self.size = 0
        self.queued = 0

    @property
    def waiting(self) -> bool:
        """Whether the transport has not yet taken everything."""
        return self._waiting

    def start(self, data: bytes) -> None:
        """Send the first bytes, behind whatever others have written to the transport."""
        if self._owner is not None:
            self._enqueue(data)

    def send(self, data: bytes) -> None:
        """Send bytes, at once if nothing waits.

        Args:
            data: complete frames. The object is kept, not copied, while it waits.
        """
        if self._owner is None:
            return
        if self._waiting or self._socket is None:
            self._enqueue(data)
            return
        try:
            sent = self._socket.send(data)
        except OSError as error:
            if error.errno not in _TAKES_NONE:
                self._part().broken()
                return
            sent = 0
        if sent < len(data):
            self._enqueue(memoryview(data)[sent:])

    def _enqueue(self, data: bytes | memoryview) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(data)
        self.size += len(data)
        self.queued += len(data)
        self._total.grow(self, len(data))
        if self._owner is None:
            return
        if self.size > self._limits.max_backlog:
            self.overflow(everyone=False)
        elif not self._waiting:
            self._waiting = True
            self._sweep.arm(self._stalled, self._limits.stall_timeout)
            self._transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """The transport has passed on all it was lent: lend it more, or leave it alone."""
        if self._owner is None:
            return
        self._give_back()
        if self._queue:
            self._sweep.arm(self._stalled, self._limits.stall_timeout)
            piece = _take(self._queue, PIECE)
            self._lent = len(piece)
            self._transport.write(piece)
            return
        self._queue = None
        self._waiting = False
        self._sweep.disarm(self._stalled)
        self._transport.unregisterProducer()
        if self._finished is not None:
            self._end(self._finished)

    def stopProducing(self) -> None:
        """The connection is lost."""
        self.close()

    def finish(self, finished: Callable[[], None]) -> None:
        """Take nothing more; call ``finished`` when the transport has taken what waits.

        It is not called if the outbox is closed before.
        """
        if self._owner is None:
            return
        if self._waiting:
            self._finished = finished
        else:
            self._end(finished)

    def _end(self, finished: Callable[[], None]) -> None:
        self.close()
        finished()

    def close(self) -> None:
        """Drop what waits and take nothing more."""
        if self._owner is None:
            return
        # An owner holds its outbox: a connection that has ended would be a cycle, and wait for
        # the collector.
        self._owner = None
        self._finished = None
        self._queue = None
        self._sweep.disarm(self._stalled)
        self._lent = self.size
        self._give_back()

    def overflow(self, everyone: bool) -> None:
        """Give the subscriber up because too much waits, for it or for everyone."""
        self._part().overflowed(everyone)

    def _stalled(self) -> None:
        self._part().stalled()

    def _part(self) -> Owner:
        """Close, while it is open; whom to tell."""
        owner = self._owner
        assert owner is not None
        self.close()
        return owner

    def _give_back(self) -> None:
        if self._lent:
            self.size -= self._lent
            self._total.shrink(self, self._lent)
            self._lent = 0


def _take(queue: deque[bytes | memoryview], limit: int) -> bytes:
    """Take bytes from the front of a queue, at most ``limit`` of them."""
    first = queue.popleft()
    if len(first) > limit:
        queue.appendleft(memoryview(first)[limit:])
        return bytes(first[:limit])
    parts, size = [first], len(first)
    while queue and size + len(queue[0]) <= limit:
        part = queue.popleft()
        parts.append(part)
        size += len(part)
    return b"".join(parts)
