"""Who is connected, and how many may be."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pinghub import connections
from pinghub.connections import Connections, descriptor_share, raise_descriptor_limit


class Descriptors:
    """The ``resource`` module of a process with limits of its own.

    Args:
        soft: its soft limit.
        hard: its hard limit.
        ceiling: what its kernel allows, which may be less than the hard limit.
        error: how the kernel refuses.
    """

    RLIMIT_NOFILE = 7

    def __init__(
        self,
        soft: int,
        hard: int,
        ceiling: int | None = None,
        error: type[Exception] = ValueError,
    ) -> None:
        self._limits = (soft, hard)
        self._ceiling = hard if ceiling is None else ceiling
        self._error = error

    def getrlimit(self, what: int) -> tuple[int, int]:
        assert what == self.RLIMIT_NOFILE
        return self._limits

    def setrlimit(self, what: int, limits: tuple[int, int]) -> None:
        assert what == self.RLIMIT_NOFILE
        if max(limits) > self._ceiling:
            raise self._error("not allowed")
        self._limits = limits


class Peer:
    """A connection that does nothing."""

    busy = False

    def go_away(self) -> None:
        """There is nothing to close."""

    def abort(self) -> None:
        """There is nothing to close."""


class DescriptorTests(SynchronousTestCase):
    """The bound that follows from the process's descriptors."""

    def test_the_soft_limit_is_raised(self) -> None:
        """The soft limit is raised to the hard one."""
        process = Descriptors(1024, 4096)
        self.patch(connections, "resource", process)
        raise_descriptor_limit()
        self.assertEqual(process.getrlimit(process.RLIMIT_NOFILE), (4096, 4096))

    def test_nothing_to_raise(self) -> None:
        """A soft limit that is as high as the hard one is left alone."""
        process = Descriptors(4096, 4096, ceiling=0)
        self.patch(connections, "resource", process)
        raise_descriptor_limit()
        self.assertEqual(process.getrlimit(process.RLIMIT_NOFILE), (4096, 4096))

    def test_raising_may_be_refused(self) -> None:
        """Where the kernel refuses, the soft limit stays, and the server starts anyway."""
        for error in (ValueError, PermissionError):
            process = Descriptors(1024, 1 << 40, ceiling=10_240, error=error)
            self.patch(connections, "resource", process)
            raise_descriptor_limit()
            self.assertEqual(process.getrlimit(process.RLIMIT_NOFILE)[0], 1024, error)

    def test_share(self) -> None:
        """Connections may take 80 % of the descriptors, in whole numbers."""
        for soft, share in {1024: 819, 1000: 800, 1_048_576: 838_860}.items():
            self.patch(connections, "resource", Descriptors(soft, soft))
            self.assertEqual(descriptor_share(), share)
            self.assertEqual(Connections().limit, share)

    def test_real_process(self) -> None:
        """This very process has a share."""
        self.assertGreater(descriptor_share(), 0)


class ConnectionsTests(SynchronousTestCase):
    """Counting."""

    def setUp(self) -> None:
        self.connections = Connections(3)

    def fill(self, subscribers: int, requesters: int) -> None:
        """Let some connections come."""
        self.connections.subscribers.update(Peer() for _ in range(subscribers))
        self.connections.requesters.update(Peer() for _ in range(requesters))

    def test_given_limit(self) -> None:
        """A limit that is given is taken as it is."""
        self.assertEqual(self.connections.limit, 3)
        self.assertFalse(self.connections.draining)

    def test_both_kinds_count(self) -> None:
        """Websockets and HTTP connections are counted alike."""
        self.fill(2, 5)
        self.assertEqual(len(self.connections), 7)

    def test_full(self) -> None:
        """A connection over the limit finds the server full; one at the limit does not."""
        self.fill(2, 0)
        requester = Peer()
        self.connections.requesters.add(requester)
        self.assertFalse(self.connections.full_for(requester))
        self.connections.subscribers.add(Peer())
        self.assertTrue(self.connections.full_for(requester))

    def test_a_connection_of_somebody_elses_site(self) -> None:
        """A connection that was accepted elsewhere counts as one too."""
        self.fill(2, 0)
        self.assertFalse(self.connections.full_for(Peer()))
        self.fill(0, 1)
        self.assertTrue(self.connections.full_for(Peer()))
