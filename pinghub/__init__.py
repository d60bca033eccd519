"""Pinghub: publish/subscribe for websocket clients, where a URL path is a channel.

The contract in short:

* opening a websocket on a path subscribes to the channel of that name; a text message sent
  on it, or POSTed to the path, is published to every subscriber of the channel;
* every subscriber receives every message published after its handshake, all in one order;
* nothing is stored: at most once, no history, and a channel lasts while someone listens;
* a subscriber that does not read is evicted at a stated bound, and nobody else notices;
* TLS, authentication and scale belong to the reverse proxy in front.

The names below are the public interface; see docs/embedding.md for their use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pinghub.channels import ChannelManager, Subscriber
    from pinghub.draining import drain
    from pinghub.errors import PinghubError
    from pinghub.frames import CloseCode
    from pinghub.limits import Limits
    from pinghub.origins import OriginPolicy
    from pinghub.proxies import TrustedProxies
    from pinghub.resource import PinghubResource
    from pinghub.service import PinghubService
    from pinghub.site import PinghubSite

__version__ = "0.1.0"

__all__ = [
    "ChannelManager",
    "CloseCode",
    "Limits",
    "OriginPolicy",
    "PinghubError",
    "PinghubResource",
    "PinghubService",
    "PinghubSite",
    "Subscriber",
    "TrustedProxies",
    "__version__",
    "drain",
]

_HOME = {
    "ChannelManager": "channels",
    "CloseCode": "frames",
    "Limits": "limits",
    "OriginPolicy": "origins",
    "PinghubError": "errors",
    "PinghubResource": "resource",
    "PinghubService": "service",
    "PinghubSite": "site",
    "Subscriber": "channels",
    "TrustedProxies": "proxies",
    "drain": "draining",
}


def __getattr__(name: str) -> object:
    # Imported on first use, so that importing the core (pinghub.channels) loads neither
    # Twisted's reactor machinery nor Autobahn; tests/test_layers.py keeps it so.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
