"""A site with channels in it: ``python -m tests.faults.embedding [Site|PinghubSite]``.

Two parts of its tree are channels, of one manager; the others are the site's own.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from pinghub import ChannelManager, Limits, PinghubResource, PinghubSite, drain


class Form(Resource):
    """A resource that knows nothing of channels: tells what it was sent."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        """Tell the path below, the size of the body and the fields of a form."""
        body = request.content.read()
        fields = {name.decode(): values[0].decode() for name, values in request.args.items()}
        below = [segment.decode() for segment in request.postpath]
        return json.dumps([below, len(body), fields]).encode()


def tree(manager: ChannelManager) -> Resource:
    """The site: ``/``, ``/form``, and channels below ``/live`` and ``/deep/er``."""
    root = Resource()
    root.putChild(b"", Data(b"our own page\n", "text/plain"))
    root.putChild(b"form", Form())
    root.putChild(b"live", PinghubResource(manager))
    deep = Resource()
    deep.putChild(b"er", PinghubResource(manager, post_only=["/news"]))
    root.putChild(b"deep", deep)
    return root


def main() -> None:
    """Serve until a signal comes, then drain."""
    loop: Any = reactor
    manager = ChannelManager(loop, Limits(drain=2.0))
    root = tree(manager)
    site: Any = Site(root) if sys.argv[1] == "Site" else PinghubSite(root, manager)
    loop.addSystemEventTrigger("before", "shutdown", drain, manager)
    port = loop.listenTCP(0, site, interface="127.0.0.1")
    # What the tests look for in the log of any server.
    announcement = f"Listening on 127.0.0.1:{port.getHost().port};"
    loop.callWhenRunning(print, announcement, flush=True)
    loop.run()


if __name__ == "__main__":
    main()
