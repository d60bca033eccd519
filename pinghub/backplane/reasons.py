"""Why a connection failed, in one line for people."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.python.failure import Failure


def reason_of(failure: Failure) -> str:
    """The reason of a failure: one line, never empty, without a period at its end."""
    error: Any = failure.value
    if isinstance(error, VerificationError):
        return f"TLS: the certificate is not for {_expected(error)}"
    if isinstance(error, SSL.Error):
        return f"TLS: {_line(_said(error)) or type(error).__name__}"
    return _line(failure.getErrorMessage()) or type(error).__name__


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(". ")


def _said(error: Any) -> str:
    """What OpenSSL says: a list of a library, a function and a reason each, or words."""
    said = error.args[0] if len(error.args) == 1 else error.args
    words = dict.fromkeys(each[-1] if isinstance(each, tuple) else each for each in said)
    return ", ".join(word for word in words if isinstance(word, str) and word)


def _expected(error: Any) -> str:
    """The host that was connected to."""
    (mismatch, *_) = error.errors
    wanted = mismatch.mismatched_id
    if hasattr(wanted, "ip"):
        return str(wanted.ip)
    host: bytes = wanted.hostname
    return host.decode()
