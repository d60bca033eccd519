"""Hostile peers behind nginx and HAProxy."""

from __future__ import annotations

from tests.proxies import hostile
from tests.proxies.harness import HAProxyTests, NginxTests


class NginxHostileTests(NginxTests, hostile.HostileTests):
    """Behind nginx."""

    REFUSED = (400, 413)


class HAProxyHostileTests(HAProxyTests, hostile.HostileTests):
    """Behind HAProxy, which makes a plain GET of a handshake with a body."""

    REFUSED = (200, 413)
