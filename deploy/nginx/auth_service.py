"""Says for nginx who may use which channel; an example for auth.conf, see docs/authentication.md.

nginx asks with a GET for the path that it is going to use, and says the client's method in
``X-Original-Method``. The token comes as ``Authorization: Bearer``, as ``X-Token`` (from the query,
because browsers cannot set header fields on websockets) or as the cookie ``token``. It is a JWT
(RFC 7519, HS256) with the claims ``sub``, the user, and ``exp``.

Needs Twisted, which Pinghub needs as well.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import sys
import time
from typing import Any
from urllib.parse import unquote

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

SECRET = os.environb.get(b"PINGHUB_JWT_SECRET", b"")
PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 9000


def decide(method: bytes | None, path: str, token: bytes) -> tuple[int, str]:
    """What to answer, and the user: this is what to change."""
    user = user_of(token)
    if user is None:
        return 401, ""
    own = path.startswith("/me/")
    news = path.startswith("/news/") and method in (b"GET", b"HEAD")
    return (204 if own or news else 403), user


def user_of(token: bytes) -> str | None:
    """The user that a token was signed for; None if it is not a good one."""
    signed, _, signature = token.rpartition(b".")
    expected = base64.urlsafe_b64encode(hmac.digest(SECRET, signed, "sha256")).rstrip(b"=")
    if not hmac.compare_digest(expected, signature):
        return None
    try:
        header, claims = (
            json.loads(base64.urlsafe_b64decode(part + b"==")) for part in signed.split(b".")
        )
        good = header["alg"] == "HS256" and claims["exp"] > time.time() and is_name(claims["sub"])
    except (ValueError, LookupError, TypeError):
        return None
    return claims["sub"] if good else None


def is_name(sub: object) -> bool:
    """Whether a name can stand in a path, and comes through a header field as it is."""
    if not isinstance(sub, str) or not sub.isprintable():
        return False
    # From both ends of a header field nginx takes the spaces: " bob" would become bob.
    return 0 < len(sub) <= 64 and sub == sub.strip() and sub[0] != "." and "/" not in sub


def token_of(request: Any) -> bytes:
    """The token of a request, wherever it is."""
    scheme, _, token = (request.getHeader(b"authorization") or b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return token
    return request.getHeader(b"x-token") or request.getCookie(b"token") or b""


class Decisions(Resource):
    """Answers nginx."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """Answer one question."""
        path = unquote(request.path.decode())
        status, user = decide(request.getHeader(b"x-original-method"), path, token_of(request))
        request.setResponseCode(status)
        request.setHeader(b"X-User", user.encode())
        if status == 401:
            request.setHeader(b"WWW-Authenticate", b"Bearer")
        return b""


class QuietSite(Site):
    """Logs no requests: nginx does."""

    def log(self, request: Any) -> None:
        """Nothing."""


if __name__ == "__main__":
    if len(SECRET) < 32:
        sys.exit("Set PINGHUB_JWT_SECRET to a secret of 32 bytes or more.")
    reactor.listenTCP(PORT, QuietSite(Decisions()), backlog=1024, interface="127.0.0.1")
    reactor.run()
