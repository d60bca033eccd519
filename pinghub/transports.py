"""What has to be known of Twisted's transports to write and to close well."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from twisted.internet.interfaces import ISSLTransport

# The wrapper that the "haproxy:" endpoint puts around a connection passes bytes on unchanged
# once it has read the PROXY header. It has no public name; tests/test_transports.py would
# notice if it moved.
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper
from twisted.protocols.policies import ProtocolWrapper

from pinghub.outbox import Socket


def _socket_of(transport: Any) -> Any:
    """The transport that owns the socket; None if bytes must not be written to it directly.

    Under TLS the socket takes ciphertext only. Wrappers forward unknown attributes to what
    they wrap, so that ``transport.getHandle()`` alone would find the socket below TLS, and
    plain text would be sent.
    """
    while isinstance(transport, HAProxyProtocolWrapper):
        transport = transport.transport
    if ISSLTransport.providedBy(transport) or getattr(transport, "TLS", False):
        return None
    return transport


def direct_socket(transport: Any) -> Socket | None:
    """The socket of a transport, if others may write to it while the transport does not."""
    owner = _socket_of(transport)
    if owner is None or not hasattr(type(owner), "getHandle"):
        return None
    handle: Socket = owner.getHandle()
    return handle


def is_bare(transport: Any) -> bool:
    """Whether this is a socket's own transport, with nothing wrapped around it."""
    return _socket_of(transport) is transport and hasattr(type(transport), "getHandle")


def introducer(transport: Any) -> Any:
    """Whoever sends the PROXY header of a connection; None if it is to have none.

    Returns:
        The transport that tells the real address of the peer, which is the proxy. The address
        that the header names is known once it has been read: from the first bytes on.
    """
    introduced = False
    while isinstance(transport, ProtocolWrapper):
        introduced = introduced or isinstance(transport, HAProxyProtocolWrapper)
        transport = transport.transport
    return transport if introduced else None


def has_unsent(transport: Any) -> bool:
    """Whether a bare transport has yet to send something that was written to it."""
    # Twisted has no public name for it; tests/test_transports.py would notice a change.
    return bool(transport.dataBuffer or transport._tempDataBuffer)


def write_at_once(transport: Any, data: bytes) -> None:
    """Write to a bare transport; what the kernel takes at once needs no further turn."""
    if not has_unsent(transport):
        try:
            sent = transport.getHandle().send(data)
        except OSError:
            # It would block, or the connection is lost: the transport knows what to do then.
            sent = 0
        if sent == len(data):
            return
        data = data[sent:]
    transport.write(data)


def shut_down_writing(transport: Any) -> None:
    """Tell the peer that no more bytes come, once what is buffered has been sent.

    The peer's bytes are still read. Closing at once would discard them unread, and a kernel
    that discards unread bytes sends a reset, which makes the peer forget our last words
    (RFC 9112 section 9.6). TLS cannot be half closed: there the connection is closed, which
    waits for the peer's closing alert.
    """
    owner = _socket_of(transport)
    if owner is None or not hasattr(type(owner), "loseWriteConnection"):
        transport.loseConnection()
    elif has_unsent(owner):
        owner.loseWriteConnection()
    else:
        # What loseWriteConnection would do in a further turn. It may be gone already.
        with contextlib.suppress(OSError):
            owner.getHandle().shutdown(socket.SHUT_WR)


def bound_writes(transport: Any, size: int) -> None:
    """Let a transport pause its producer when more than ``size`` bytes are buffered."""
    owner = _socket_of(transport)
    if owner is not None and hasattr(type(owner), "bufferSize"):
        owner.bufferSize = size
