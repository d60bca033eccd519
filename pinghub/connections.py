"""Who is connected: counted against the bound, and told when the server drains."""

from __future__ import annotations

import resource
from typing import Protocol

SHARE = 0.8
"""The share of the descriptor limit that connections may take.

The rest stays for POSTs, which are short, and for files and listeners.
"""


class Connection(Protocol):
    """What a drain needs of a connection."""

    def go_away(self) -> None:
        """Close politely: say why, let what is pending arrive first."""

    def abort(self) -> None:
        """Close at once."""


class Requester(Connection, Protocol):
    """A connection that speaks HTTP."""

    @property
    def busy(self) -> bool:
        """Whether a request has begun to arrive and is not answered yet."""


class Connections:
    """Every open connection of one reactor.

    Args:
        limit: how many connections may be open before all but POSTs are refused; None for
            80 % of the descriptors that the process may open now.

    Attributes:
        limit: the bound in force.
        subscribers: the websocket connections, those that are closing included.
        requesters: the connections that speak HTTP, as far as PinghubSite accepted them.
        leaving: whether the server was told to stop; it may serve on for a while, so that
            balancers notice.
        draining: whether it closes its connections; then nobody is admitted.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = descriptor_share() if limit is None else limit
        self.subscribers: set[Connection] = set()
        self.requesters: set[Requester] = set()
        self.leaving = False
        self.draining = False

    def __len__(self) -> int:
        return len(self.subscribers) + len(self.requesters)

    def full_for(self, requester: object) -> bool:
        """Whether a request on this connection finds the server full.

        Args:
            requester: the HTTP connection that asks. It counts as one connection, whether it
                is among ``requesters`` or was accepted by somebody else's Site.
        """
        own = 0 if requester in self.requesters else 1
        return len(self) + own > self.limit


def descriptor_share() -> int:
    """The share of this process's descriptor limit (RLIMIT_NOFILE) for connections."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return int(soft * SHARE)


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open descriptors to the hard one, if that is allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        pass  # Some kernels cap it below the hard limit; the soft one then stays.
