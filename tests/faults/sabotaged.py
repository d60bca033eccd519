"""A Pinghub with something wrong inside its process: the ``pinghub`` command, and a fault.

``python -m tests.faults.sabotaged FAULT [options of pinghub]`` runs the command as it is. The
fault strikes, or ends, when the process gets SIGUSR1:

* ``accept:ENFILE`` and the like: the system refuses every new connection with that error;
* ``descriptors:64``: the process may have so many descriptors, from the start;
* ``block:4``: one callback takes so many seconds;
* ``noise:20000``: other code logs so many warnings at once;
* ``collector``: no fault, but the log tells the longest pause of the garbage collector so far.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor, tcp
from twisted.logger import Logger

from pinghub import cli

Strike = Callable[[], None]


def command(fault: str) -> list[str]:
    """The command that runs a Pinghub with a fault; run it in ``places.ROOT``."""
    return [sys.executable, "-m", "tests.faults.sabotaged", fault]


class RefusingSocket(socket.socket):
    """A socket that cannot accept connections while its class says so."""

    error: int | None = None

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection, or fail as the system would."""
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        return super().accept()


def refuse_connections(name: str) -> Strike:
    """Let ``accept`` fail from one signal to the next."""

    def create_socket(port: Any) -> socket.socket:
        made = RefusingSocket(port.addressFamily, port.socketType)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return made

    def strike() -> None:
        RefusingSocket.error = None if RefusingSocket.error else getattr(errno, name)

    port: Any = tcp.Port
    port.createInternetSocket = create_socket
    return strike


def limit_descriptors(count: str) -> Strike:
    """Let the process have so many descriptors and no more."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(count), int(count)))
    return lambda: None


def block(seconds: str) -> Strike:
    """Let one callback take so long."""
    return lambda: time.sleep(float(seconds))


def make_noise(lines: str) -> Strike:
    """Log many warnings, as other code in the process may."""
    logger = Logger(namespace="noise")

    def strike() -> None:
        for number in range(int(lines)):
            logger.warn("noise {number:06d} {filling}", number=number, filling="x" * 100)

    return strike


def watch_collector(_: str) -> Strike:
    """Time every run of the garbage collector; tell the longest when asked."""
    logger = Logger(namespace="collector")
    longest = begun = 0.0

    def watch(phase: str, info: dict[str, int]) -> None:
        nonlocal longest, begun
        if phase == "start":
            begun = time.perf_counter()
        else:
            longest = max(longest, time.perf_counter() - begun)

    def tell() -> None:
        nonlocal longest
        logger.warn("longest pause: {pause:.3f} ms", pause=longest * 1000)
        longest = 0.0

    # First of all, to have in view whatever else is called around a collection.
    gc.callbacks.insert(0, watch)
    return tell


FAULTS: dict[str, Callable[[str], Strike]] = {
    "accept": refuse_connections,
    "descriptors": limit_descriptors,
    "block": block,
    "noise": make_noise,
    "collector": watch_collector,
}


def main() -> None:
    """Prepare the fault that the command line names, and run the server."""
    fault, _, argument = sys.argv[1].partition(":")
    strike = FAULTS[fault](argument)
    # The handler may run in the middle of anything: strike in a turn of its own.
    call: Any = reactor
    signal.signal(signal.SIGUSR1, lambda *_: call.callFromThread(strike))
    cli.main(sys.argv[2:])


if __name__ == "__main__":
    main()
