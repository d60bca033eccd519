"""A Pinghub with something wrong inside its process: the ``pinghub`` command, and a fault.

``python -m tests.faults.sabotaged FAULT [options of pinghub]`` runs the command as it is. The
fault strikes, or ends, when the process gets SIGUSR1:

* ``accept:ENFILE`` and the like: the system refuses every new connection with that error;
* ``descriptors:64``: the process may have so many descriptors, from the start;
* ``block:4``: one callback takes so many seconds;
* ``noise:20000``: other code logs so many warnings at once;
* ``collector``: no fault; the log tells the longest run of the garbage collector since the last
  signal, and how long a run takes that leaves out nothing.
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
    """Let one callback take so long; the log tells when it has begun."""
    logger = Logger(namespace="block")

    def strike() -> None:
        logger.warn("blocked from now on")
        time.sleep(float(seconds))

    return strike


def make_noise(lines: str) -> Strike:
    """Log many warnings, as other code in the process may."""
    logger = Logger(namespace="noise")

    def strike() -> None:
        for number in range(int(lines)):
            logger.warn("noise {number:06d} {filling}", number=number, filling="x" * 100)

    return strike


def watch_collector(_: str) -> Strike:
    """Time every run of the garbage collector; tell the longest when asked, and begin anew."""
    logger = Logger(namespace="collector")
    longest = begun = 0.0

    def watch(phase: str, info: dict[str, int]) -> None:
        nonlocal longest, begun
        # Processor time: other processes may have a turn in between.
        now = time.thread_time()
        if phase == "start":
            begun = now
        else:
            longest = max(longest, now - begun)

    def tell() -> None:
        nonlocal longest
        pause, longest = longest, 0.0
        # What it takes to look at every object that there is.
        frozen = gc.get_freeze_count()
        gc.unfreeze()
        gc.collect()
        if frozen:
            gc.freeze()
        logger.warn(
            "longest {pause:.3f} ms, all {all:.3f} ms", pause=pause * 1e3, all=longest * 1e3
        )
        longest = 0.0

    gc.callbacks.append(watch)
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
