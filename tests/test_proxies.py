"""The client's address: what trusted proxies say of it, and nobody else."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pinghub.errors import ConfigurationError
from pinghub.proxies import TrustedProxies, parse_address

ADDRESSES = st.ip_addresses().filter(lambda each: getattr(each, "ipv4_mapped", None) is None)


class ClientTests(SynchronousTestCase):
    """Who the client is."""

    def client(self, trusted: str, peer: str | None, *forwarded: str) -> str:
        """The client behind some header lines."""
        lines = [line.encode("latin-1") for line in forwarded]
        return str(TrustedProxies(trusted.split()).client(peer, lines))

    def test_nobody_is_trusted(self) -> None:
        """Without trusted proxies the client is who connects, whatever it says."""
        self.assertFalse(TrustedProxies())
        self.assertEqual(self.client("", "192.0.2.1", "198.51.100.7"), "192.0.2.1")
        self.assertEqual(self.client("", None, "198.51.100.7"), "None")

    def test_one_proxy(self) -> None:
        """The last entry is the proxy's; what was there before is what the client made up."""
        proxy = "10.0.0.0/8"
        self.assertTrue(TrustedProxies([proxy]))
        self.assertEqual(self.client(proxy, "10.1.2.3", "198.51.100.7"), "198.51.100.7")
        self.assertEqual(self.client(proxy, "10.1.2.3", "1.2.3.4, 198.51.100.7"), "198.51.100.7")
        self.assertEqual(self.client(proxy, "10.1.2.3", "1.2.3.4", "198.51.100.7"), "198.51.100.7")
        self.assertEqual(self.client(proxy, "10.1.2.3"), "10.1.2.3")
        self.assertEqual(self.client(proxy, "11.1.2.3", "198.51.100.7"), "11.1.2.3")

    def test_a_chain(self) -> None:
        """Trusted proxies behind each other: the client is the first who is none of them."""
        self.assertEqual(
            self.client(
                "10.0.0.1 192.0.2.0/24", "10.0.0.1", "9.9.9.9,198.51.100.7,192.0.2.9", "192.0.2.8"
            ),
            "198.51.100.7",
        )
        # A client within a trusted network: the leftmost, as there is no better.
        self.assertEqual(self.client("10.0.0.0/8", "10.0.0.1", "10.0.0.3, 10.0.0.2"), "10.0.0.3")

    def test_a_unix_socket(self) -> None:
        """Whoever connects through a unix socket is trusted if that is said."""
        self.assertEqual(self.client("unix", None, "198.51.100.7"), "198.51.100.7")
        self.assertEqual(self.client("10.0.0.0/8", None, "198.51.100.7"), "None")
        self.assertEqual(self.client("unix", "10.0.0.1", "198.51.100.7"), "10.0.0.1")

    def test_forms(self) -> None:
        """Ports, brackets, zones and mapped addresses."""
        for text, address in {
            "198.51.100.7:4711": "198.51.100.7",
            "2001:db8::7": "2001:db8::7",
            "[2001:db8::7]": "2001:db8::7",
            "[2001:db8::7]:4711": "2001:db8::7",
            "::ffff:198.51.100.7": "198.51.100.7",
            "fe80::1%eth0": "fe80::1",
            "\t198.51.100.7 ": "198.51.100.7",
        }.items():
            self.assertEqual(self.client("10.0.0.1", "10.0.0.1", text), address, text)

    def test_no_address(self) -> None:
        """An entry that is no address ends the search: left of it anything may stand."""
        for text in ("unknown", "", "_hidden", "1.2.3", "1", "01.2.3.4", "1.2.3.4:x", "[1.2.3.4"):
            lines = f"198.51.100.7, {text}"
            self.assertEqual(self.client("10.0.0.1", "10.0.0.1", lines), "10.0.0.1", text)
        self.assertEqual(self.client("10.0.0.1 unix", "nonsense", "198.51.100.7"), "None")

    @given(
        st.text(st.characters(max_codepoint=255), max_size=200),
        ADDRESSES,
    )
    def test_nothing_can_be_spoofed(self, said: str, client: object) -> None:
        """Whatever a client writes: the proxy adds its address, and that is it."""
        proxies = TrustedProxies(["127.0.0.1"])
        line = f"{said}, {client}".encode("latin-1")
        if client != ip_address("127.0.0.1"):
            self.assertEqual(proxies.client("127.0.0.1", [line]), client)
        self.assertEqual(proxies.client(str(client), [said.encode("latin-1")]), client)

    @given(st.text(max_size=50))
    def test_any_text(self, text: str) -> None:
        """No text raises."""
        parse_address(text)


class IntroductionTests(SynchronousTestCase):
    """Who may send a PROXY header."""

    def test_by_default(self) -> None:
        """With nobody named, those of this machine may."""
        nobody = TrustedProxies()
        self.assertTrue(nobody.may_introduce(None))
        for peer in ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"):
            self.assertTrue(nobody.may_introduce(peer), peer)
        for peer in ("10.0.0.1", "2001:db8::1", "nonsense"):
            self.assertFalse(nobody.may_introduce(peer), peer)

    def test_who_is_named(self) -> None:
        """Otherwise those that are named, and no others."""
        named = TrustedProxies(["10.0.0.1", "2001:db8::/64"])
        for peer in ("10.0.0.1", "2001:db8::5"):
            self.assertTrue(named.may_introduce(peer), peer)
        self.assertFalse(named.may_introduce(None))
        for peer in ("127.0.0.1", "10.0.0.2"):
            self.assertFalse(named.may_introduce(peer), peer)
        self.assertTrue(TrustedProxies(["unix"]).may_introduce(None))


class OptionTests(SynchronousTestCase):
    """What ``--trust-proxy`` takes."""

    def test_refused(self) -> None:
        """Anything else is refused with a line that says what to give."""
        for text in ("", "x", "10.0.0.0/33", "10.0.0.1/8", "proxy.example.com", "10.0.0.1:80"):
            error = self.assertRaises(ConfigurationError, TrustedProxies, [text])
            self.assertEqual(
                str(error),
                f"--trust-proxy={text}: give a network such as 10.0.0.0/8, an address, or unix",
            )

    def test_everybody(self) -> None:
        """Trusting every address would be trusting every client."""
        for text in ("0.0.0.0/0", "::/0"):
            error = self.assertRaises(ConfigurationError, TrustedProxies, [text])
            self.assertIn("name the proxies", str(error))
