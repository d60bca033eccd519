"""Unix sockets that systemd holds and hands over, and that have to stay as they are.

Twisted treats a unix socket that it is given as one of its own: it opens the file to everybody,
which a server without the right to do so does not survive; it shortens the queue of those who
wait; in the end it shuts the socket down and removes the file, and systemd would go on to listen
where nobody can connect. TCP sockets have none of this.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.failure import Failure


class AdoptedUnixPort(unix.Port):
    """Listens on a unix socket of somebody else's, and leaves it as it was."""

    factory: Any
    socket: Any
    fileno: Any

    def startListening(self) -> None:
        """Accept connections; the socket listens already."""
        # What Twisted does for a TCP socket that it adopts, in tcp.Port.startListening.
        self.socket, self._preexistingSocket = self._preexistingSocket, None
        self._shouldShutdown = False
        self.factory.doStart()
        self.connected = True
        self.fileno = self.socket.fileno
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """Accept no more; the file is not ours to remove."""
        tcp.Port.connectionLost(self, reason)


class AdoptingReactor:
    """A reactor for ``serverFromString`` that adopts unix sockets as they are.

    Args:
        reactor: the reactor; everything else is its own.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def adoptStreamPort(self, fileno: int, family: int, factory: IProtocolFactory) -> Any:
        """Listen on a socket that is there already (IReactorSocket)."""
        if family != socket.AF_UNIX:
            return self._reactor.adoptStreamPort(fileno, family, factory)
        port = AdoptedUnixPort._fromListeningDescriptor(self._reactor, fileno, factory)
        port.startListening()
        return port
