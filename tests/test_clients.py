"""Counting the connections of each client."""

from __future__ import annotations

from ipaddress import ip_address

from twisted.trial.unittest import SynchronousTestCase

from pinghub.clients import Clients, Place


class ClientsTests(SynchronousTestCase):
    """Who has how many."""

    def enter(self, clients: Clients, address: str) -> Place:
        """A place of a client that is counted."""
        place = clients.enter(ip_address(address))
        assert place is not None
        return place

    def test_the_bound(self) -> None:
        """Up to the bound; above it a client is told; above twice the bound it is not."""
        clients = Clients(2)
        places = [self.enter(clients, "192.0.2.1") for _ in range(6)]
        self.assertEqual([each.over for each in places], [False] * 2 + [True] * 4)
        self.assertEqual([each.far_over for each in places], [False] * 4 + [True] * 2)
        self.assertFalse(self.enter(clients, "192.0.2.2").over)

    def test_leaving(self) -> None:
        """A place that is given back is there for the next; and is given back once."""
        clients = Clients(1)
        first, second = (self.enter(clients, "192.0.2.1") for _ in range(2))
        second.leave()
        second.leave()
        self.assertTrue(self.enter(clients, "192.0.2.1").over)
        first.leave()
        self.assertEqual(len(clients), 1)

    def test_nobody_is_remembered(self) -> None:
        """Who is not connected takes no memory."""
        clients = Clients(1)
        for number in range(1000):
            self.enter(clients, f"10.0.{number // 256}.{number % 256}").leave()
        self.assertEqual(len(clients), 0)

    def test_networks(self) -> None:
        """IPv6: who has one address of a network has them all."""
        clients = Clients(1)
        self.assertFalse(self.enter(clients, "2001:db8:0:1::1").over)
        self.assertTrue(self.enter(clients, "2001:db8:0:1:ffff::2").over)
        self.assertFalse(self.enter(clients, "2001:db8:0:2::1").over)
        self.assertEqual(len(clients), 2)

    def test_not_counted(self) -> None:
        """Without a bound nobody is counted, and without an address nobody can be."""
        self.assertIsNone(Clients(0).enter(ip_address("192.0.2.1")))
        self.assertIsNone(Clients(1).enter(None))
