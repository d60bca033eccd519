"""From a request target to the name of a channel: one function for every way in.

The websocket handshake and POST both call ``channel_name`` with the raw request target, so
that they cannot disagree. Parsing the target again with urllib, as websocket libraries do,
gives other names for ``//a``, ``/a;b`` and ``http://h/a``.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from pinghub.errors import BadRequest


def channel_name(target: bytes, mount: int = 0, limit: int = 256) -> str:
    """Name the channel that a request target stands for.

    The path is percent-decoded once, and not normalised in any other way: ``/a``, ``/a/``,
    ``//a`` and ``/a/../a`` are four channels, ``/%61`` is ``/a``, ``%2F`` is ``/``. The query
    does not count. An escape that is none (``%zz``) stays as it is.

    Args:
        target: the request target as it came, in origin form (RFC 9112 section 3.2.1).
        mount: how many leading path segments belong to the place where the resource is
            mounted; the name begins behind them. A target that ends there names ``/``.
        limit: the longest name allowed, in characters.

    Returns:
        The name: it begins with ``/`` and has 1 to ``limit`` characters.

    Raises:
        BadRequest: the target is not in origin form, not UTF-8 or too long.
    """
    if not target.startswith(b"/"):
        raise BadRequest("The request target has to be a path that begins with a slash.")
    path = target.partition(b"?")[0]
    if mount:
        path = b"/" + b"/".join(path.split(b"/")[mount + 1 :])
    try:
        name = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise BadRequest("The channel name is not valid UTF-8.") from None
    if len(name) > limit:
        raise BadRequest(f"The channel name is too long: use at most {limit} characters.")
    return name
