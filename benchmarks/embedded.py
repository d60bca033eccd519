"""Pinghub inside a plain Site of twisted.web, as a site that embeds it has it.

Usage: ``python -m benchmarks.embedded PORT``
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

from pinghub.channels import ChannelManager
from pinghub.resource import PinghubResource


def main() -> None:
    """Serve channels below ``/live``."""
    running: Any = reactor
    root = Resource()
    root.putChild(b"live", PinghubResource(ChannelManager(running)))
    site = Site(root, parsePOSTFormSubmission=False)
    running.listenTCP(int(sys.argv[1]), site, 1024, "127.0.0.1")
    running.run()


if __name__ == "__main__":
    main()
