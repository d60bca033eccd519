"""What happens behind nginx and HAProxy when the set of servers changes."""

from __future__ import annotations

from tests.proxies import changes
from tests.proxies.harness import HAProxyTests, NginxTests


class NginxChangeTests(NginxTests, changes.ChangeTests):
    """Behind nginx: while the owner of a channel is stopped, the channel is refused."""

    WHILE_STOPPED = ((503, -1), (502, -1))


class HAProxyChangeTests(HAProxyTests, changes.ChangeTests):
    """Behind HAProxy: while the owner of a channel is stopped, another server is."""

    WHILE_STOPPED = ()

    def options(self) -> list[str]:
        return [*super().options(), "--stop-delay=2s"]
