"""A subscriber in a process of its own: ``python -m tests.faults.listener HOST PORT CHANNEL``.

It writes a line when it is subscribed, then reads all that comes, and answers pings.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from pinghub.testing import PING, PONG, client_frame
from tests.faults.harness import Peer, connect
from tests.faults.places import ROOT


def start_listener(
    host: str, port: int, path: str, prefix: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Start such a process, and wait until it is subscribed.

    Args:
        host: where the server is.
        port: its port.
        path: the channel.
        prefix: a command that is given the command to run.
    """
    module = [sys.executable, "-m", "tests.faults.listener", host, str(port), path]
    process = subprocess.Popen(
        [*prefix, *module],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "subscribed\n":
        end_listener(process)
        raise AssertionError("the listener could not subscribe")
    return process


def end_listener(process: subprocess.Popen[str]) -> None:
    """End it, even if it is stopped."""
    process.kill()
    process.communicate()


def main() -> None:
    """Subscribe, until the server ends it."""
    host, port, channel = sys.argv[1:]
    peer = Peer(connect((host, int(port))))
    peer.upgrade(channel)
    peer.socket.settimeout(None)
    print("subscribed", flush=True)
    while True:
        frame = peer.frame()
        if frame.opcode == PING:
            peer.send(client_frame(PONG, frame.payload))


if __name__ == "__main__":
    main()
