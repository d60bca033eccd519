"""A Pinghub with a hundred thousand channels: the ``pinghub`` command, and subscribers in memory.

``python -m tests.monitoring.crowded [options of pinghub]``; so many websockets would need as many
descriptors.
"""

from __future__ import annotations

import sys
from typing import Any

from pinghub import cli, tap
from pinghub.channels import ChannelManager

CHANNELS = 100_000
COMMAND = [sys.executable, "-m", "tests.monitoring.crowded"]
"""How to run it; in ``places.ROOT``."""


def name(number: int) -> str:
    """The name of a channel."""
    return f"/crowd/{number:06d}"


class Silent:
    """A subscriber that nothing is published to."""

    def deliver(self, frames: bytes) -> None:
        """Take frames (pinghub.Subscriber)."""


class CrowdedManager(ChannelManager):
    """Channels that are there from the start, with one subscriber each."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for number in range(CHANNELS):
            self.subscribe(name(number), Silent())


def main() -> None:
    """Run the server."""
    setattr(tap, "ChannelManager", CrowdedManager)  # noqa: B010
    cli.main(sys.argv[1:])


if __name__ == "__main__":
    main()
