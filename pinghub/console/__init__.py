"""The page that GET shows for a channel: a small websocket client to try it with."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from importlib.resources import files

_PAGE = files(__name__).joinpath("page.html").read_text(encoding="utf-8")


def _hash(element: str) -> str:
    """The Content-Security-Policy source of an inline element of the page."""
    content = re.search(f"<{element}>(.*?)</{element}>", _PAGE, re.DOTALL)
    assert content is not None
    digest = hashlib.sha256(content[1].encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    # The page runs its own script and style, talks to its own server, and does nothing else.
    "Content-Security-Policy": (
        "default-src 'none'; connect-src 'self' ws: wss:; "
        f"script-src {_hash('script')}; style-src {_hash('style')}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""The header lines that belong to the page."""


def page(channel: str) -> bytes:
    """The page of a channel.

    Args:
        channel: its name, which may be anything a peer thought of: it is escaped.
    """
    return _PAGE.replace("{{channel}}", html.escape(channel)).encode()
