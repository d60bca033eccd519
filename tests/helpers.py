"""What the tests of several modules need."""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase


def take_port(test: SynchronousTestCase, reactor: MemoryReactorClock, taken: int) -> None:
    """Until the test ends, somebody else listens on this port of a reactor in memory."""
    listen = reactor.listenTCP

    def listen_tcp(port: int, *arguments: Any, **options: Any) -> Any:
        if port == taken:
            reason = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            raise CannotListenError("127.0.0.1", port, reason)
        return listen(port, *arguments, **options)

    test.patch(reactor, "listenTCP", listen_tcp)
