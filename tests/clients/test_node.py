"""Node's websockets: the package ws, and the one built into Node 22."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from unittest import SkipTest, skipUnless

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.cases import SECONDS, FragmentCases, PingCases
from tests.clients.lines import LineCases

HERE = Path(__file__).with_name("node")
SCRIPT = str(HERE / "client.js")
MODULES = HERE / "node_modules"
HOW = "run npm install in tests/clients/node"


def node() -> str | None:
    """The Node that ``npm install`` brought, or the one of the system."""
    return shutil.which("node", path=MODULES / ".bin") or shutil.which("node")


@cache
def has_websocket() -> bool:
    """Whether Node has a websocket of its own."""
    asked = subprocess.run(
        [NODE, "--eval", "WebSocket"], stderr=subprocess.DEVNULL, timeout=SECONDS
    )
    return asked.returncode == 0


NODE = node() or ""


@skipUnless(NODE, f"no node: install Node.js 22 or later, and {HOW}")
@skipUnless((MODULES / "ws").is_dir(), f"no package ws: {HOW}")
class WsTests(LineCases, FragmentCases, PingCases, SynchronousTestCase):
    """The cases with ws, which offers permessage-deflate unasked."""

    command = (NODE, SCRIPT, "ws")


@skipUnless(NODE, f"no node: install Node.js 22 or later, or {HOW}")
class BuiltInTests(LineCases, SynchronousTestCase):
    """The cases with the websocket that browsers have: no fragments, no pings, with deflate."""

    command = (NODE, SCRIPT, "built-in")

    @classmethod
    def start(cls, shared: ExitStack) -> None:
        """Start, if this Node has a websocket built in."""
        if not has_websocket():
            raise SkipTest(f"a node without a websocket: {HOW}, or install Node.js 22 or later")
        super().start(shared)
