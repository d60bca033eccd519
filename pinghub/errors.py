"""The errors of Pinghub, each with the answer it deserves.

::

    PinghubError
    ├── ConfigurationError      an option or argument that cannot be used
    │   └── ListenError         an address that cannot be listened on
    └── Refusal                 something asked by a peer that is refused
        ├── BadRequest          400
        │   └── NotText         400 / 1007
        ├── ForbiddenOrigin     403
        ├── NotFound            404
        ├── MethodNotAllowed    405
        ├── RequestTimeout      408
        ├── MessageTooLarge     413 / 1009
        ├── UriTooLong          414
        ├── UpgradeRequired     426
        ├── TooManyConnections  429
        ├── HeadTooLarge        431
        ├── InternalError       500
        └── Unavailable         503
            ├── BackplaneDown   503 / 1013
            ├── BackplaneFull   503 / 1013
            ├── BackplaneLost   503 / 1013
            └── BackplaneRefused    503 / 1013

The text of a refusal is one line that is shown to the peer: it says what to do, and nothing
about the inside of the server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import ClassVar


class PinghubError(Exception):
    """Whatever Pinghub raises on purpose."""


class ConfigurationError(PinghubError):
    """An option or argument that cannot be used.

    Args:
        name: the option as the user writes it, such as ``--max-message``.
        value: what was given.
        accepted: what would be accepted, as half a sentence.
    """

    def __init__(self, name: str, value: object, accepted: str) -> None:
        text = str(value)
        # A line end or an escape sequence would make more, or less, of the one line.
        shown = text if text.isprintable() else repr(text)
        super().__init__(f"{name}={shown}: {accepted}")
        self.name = name
        self.value = value
        self.accepted = accepted


class ListenError(ConfigurationError, SystemExit):
    """An address that cannot be listened on.

    It is a ``SystemExit`` too: raised while a service starts, it ends ``twistd`` with this one
    line and status 1. ``twistd`` removes its pid file for an ``Exception`` only, and prints a
    traceback for everything that is not a ``SystemExit``; this is both.

    Args:
        value: the address.
        reason: why not, in a few words.
        option: where the address was given.
    """

    def __init__(self, value: object, reason: str, option: str = "--addr") -> None:
        super().__init__(option, value, f"cannot listen: {reason}")
        self.code = f"pinghub: {self}"


class Refusal(PinghubError):
    """Something asked by a peer that is refused.

    Attributes:
        status: the HTTP status that answers it.
        label: what it is counted as.
        headers: header lines that belong to the answer.
        text: one line for the peer.
    """

    status: ClassVar[HTTPStatus] = HTTPStatus.BAD_REQUEST
    label: ClassVar[str] = "refusal"
    headers: Mapping[str, str] = MappingProxyType({})

    def __init_subclass__(cls) -> None:
        """Count ``NotText`` as ``not-text``."""
        cls.label = re.sub(r"\B(?=[A-Z])", "-", cls.__name__).lower()

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class BadRequest(Refusal):
    """A request, channel name or handshake that is malformed."""


class NotText(BadRequest):
    """A message that is not valid UTF-8."""

    def __init__(self) -> None:
        super().__init__("The message is not valid UTF-8: send text.")


class ForbiddenOrigin(Refusal):
    """A page of another origin than those allowed."""

    status = HTTPStatus.FORBIDDEN


class NotFound(Refusal):
    """Nothing to GET here."""

    status = HTTPStatus.NOT_FOUND


class MethodNotAllowed(Refusal):
    """A method that is not known here.

    Args:
        allow: the methods that are, for the header Allow and for the peer.
    """

    status = HTTPStatus.METHOD_NOT_ALLOWED

    def __init__(self, allow: str) -> None:
        super().__init__(f"These methods are known here: {allow}.")
        self.headers = {"Allow": allow}


class RequestTimeout(Refusal):
    """A head or a body that did not arrive in time."""

    status = HTTPStatus.REQUEST_TIMEOUT


class MessageTooLarge(Refusal):
    """A message over ``Limits.max_message``.

    Args:
        limit: the bound, in bytes.
    """

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    def __init__(self, limit: int) -> None:
        super().__init__(f"The message is too large: send at most {limit} bytes.")


class UriTooLong(Refusal):
    """A request line over ``Limits.head_line``."""

    status = HTTPStatus.REQUEST_URI_TOO_LONG


class UpgradeRequired(Refusal):
    """A websocket handshake in a version other than 13 (RFC 6455 section 4.4)."""

    status = HTTPStatus.UPGRADE_REQUIRED
    headers = MappingProxyType(
        {
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
        }
    )


class TooManyConnections(Refusal):
    """A client with more connections than ``Limits.max_connections_per_address``."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    headers = MappingProxyType({"Retry-After": "5"})

    def __init__(self) -> None:
        super().__init__("Too many connections from your address: close some.")


class HeadTooLarge(Refusal):
    """A request head over one of its bounds."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class InternalError(Refusal):
    """A fault of our own; the log has the details, the peer gets none."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(self) -> None:
        super().__init__("Something went wrong in the server: try again later.")


class Unavailable(Refusal):
    """The server drains, or is full.

    Clients that honour Retry-After come back to a server that has had time to restart.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers = MappingProxyType({"Retry-After": "5"})


class BackplaneDown(Unavailable):
    """What connects the servers does not answer; nothing was published."""

    headers = MappingProxyType({"Retry-After": "1"})

    def __init__(self) -> None:
        super().__init__("The server cannot reach the others: try again in a moment.")


class BackplaneFull(Unavailable):
    """More is on its way than ``Limits.backplane_queue``; nothing was published."""

    headers = MappingProxyType({"Retry-After": "1"})

    def __init__(self) -> None:
        super().__init__("Too many messages are on their way: try again in a moment.")


class BackplaneRefused(Unavailable):
    """The backplane works, and does not let us use a channel; nothing was published."""

    headers = MappingProxyType({"Retry-After": "1"})

    def __init__(self) -> None:
        super().__init__("The server may not share this channel: tell its operator.")


class BackplaneLost(Unavailable):
    """The backplane was lost with a message on its way, which may have been published."""

    headers = MappingProxyType({"Retry-After": "1"})

    def __init__(self) -> None:
        super().__init__("The message may have been published: try again if twice does no harm.")
