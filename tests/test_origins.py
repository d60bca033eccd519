"""Which pages may use the server."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pinghub.errors import ConfigurationError
from pinghub.origins import OriginPolicy

EXACT = "https://ws.example.com"
WILDCARD = "https://*.example.org"

# What attackers put together: the parts of the allowed origins, and what could part them.
WORDS = (
    "https http ws wss :// : / \\ @ . .. * % # ? , [ ] ws.example.com example.com WS.EXAMPLE.COM "
    "example.org a.example.org evil evil.com :443 :80 :0443 443 null - _ x"
)
SPACES = (" ", "\t", "\n", "\r\n", "\x00", "\xa0", "\u212a", "\u3002", "\xe9")
PIECES = st.sampled_from([*WORDS.split(), *SPACES])
NEAR_MISSES = st.lists(PIECES, max_size=7).map("".join)
WITH_ALLOWED_START = NEAR_MISSES.map(lambda rest: EXACT + rest) | NEAR_MISSES.map(
    lambda rest: "https://" + rest + ".example.org"
)


class AllowedTests(SynchronousTestCase):
    """Single origins, against a policy."""

    def check(self, option: str, allowed: list[str], refused: list[str]) -> None:
        """A policy with one option allows some origins and refuses others."""
        policy = OriginPolicy([option])
        for origin in allowed:
            self.assertTrue(policy.allows([origin.encode()]), f"{option} and {origin!r}")
        for origin in refused:
            self.assertFalse(policy.allows([origin.encode()]), f"{option} and {origin!r}")

    def test_off_when_absent(self) -> None:
        """Without any origin given, every page may use the server."""
        policy = OriginPolicy()
        self.assertFalse(policy.restricts)
        for headers in ([], [b"https://evil.com"], [b"null"], [b"\xff"], [b"a", b"b"]):
            self.assertTrue(policy.allows(headers), headers)

    def test_no_header(self) -> None:
        """A request without an Origin header passes: no browser has sent it."""
        policy = OriginPolicy([EXACT])
        self.assertTrue(policy.restricts)
        self.assertTrue(policy.allows([]))

    def test_several_headers(self) -> None:
        """Several Origin headers are a mismatch, even if each of them is allowed."""
        policy = OriginPolicy([EXACT])
        self.assertFalse(policy.allows([EXACT.encode(), EXACT.encode()]))
        self.assertFalse(policy.allows([EXACT.encode(), b"https://evil.com"]))
        self.assertFalse(policy.allows([f"{EXACT} {EXACT}".encode()]))
        self.assertFalse(policy.allows([f"{EXACT}, {EXACT}".encode()]))

    def test_default_ports(self) -> None:
        """Default ports are filled in on both sides."""
        spellings = ["https://h.example", "https://h.example:443"]
        others = ["https://h.example:80", "https://h.example:8443", "http://h.example:443"]
        for option in spellings:
            self.check(option, spellings, others)
        for option in ("http://h.example", "http://h.example:80"):
            self.check(
                option, ["http://h.example", "http://h.example:80"], ["http://h.example:443"]
            )
        self.check("https://h.example:8443", ["https://h.example:8443"], spellings)
        self.check("https://h.example:65535", ["https://h.example:65535"], spellings)
        self.check("ws://h.example", ["ws://h.example:80"], ["http://h.example"])
        self.check("wss://h.example:443", ["wss://h.example"], ["https://h.example"])

    def test_case(self) -> None:
        """Scheme and host are compared without regard to case."""
        spellings = [EXACT, "HTTPS://WS.EXAMPLE.COM", "Https://Ws.Example.Com:443"]
        for option in spellings:
            self.check(option, spellings, [])

    def test_scheme_and_host(self) -> None:
        """Another scheme, host, prefix, suffix or part of the host is another origin."""
        refused = [
            "http://ws.example.com",
            "https://example.com",
            "https://a.ws.example.com",
            "https://ws.example.com.",
            "https://ws.example.com.evil.com",
            "https://evilws.example.com",
            "https://ws-example.com",
            "https://ws.example.co",
            "ftp://ws.example.com",
        ]
        self.check(EXACT, [EXACT], refused)

    def test_unparsable(self) -> None:
        """``null``, and whatever is more or less than an origin, is a mismatch."""
        refused = [
            "",
            "null",
            "*",
            "ws.example.com",
            "https:ws.example.com",
            "https:/ws.example.com",
            "https:///ws.example.com",
            "https://",
            "https://ws.example.com/",
            "https://ws.example.com/path",
            "https://ws.example.com?x",
            "https://ws.example.com#x",
            "https://user@ws.example.com",
            "https://evil.com@ws.example.com",
            "https://evil.com#@ws.example.com",
            "https://evil.com\\@ws.example.com",
            "https://ws.example.com:",
            "https://ws.example.com:0",
            "https://ws.example.com:0443",
            "https://ws.example.com:443:443",
            "https://ws.example.com:65536",
            "https://ws.example.com:99999",
            "https://ws.example.com:https",
            "https://ws.example.com:\u0664\u0664\u0663",
            " https://ws.example.com",
            "https://ws.example.com ",
            "https://ws.example.com\n",
            "https://ws.example.com\x00",
            "https://ws..example.com",
            "https://.ws.example.com",
            "https://*.example.com",
            "https://ws.example.com" + "x" * 2000,
        ]
        self.check(EXACT, [], refused)
        policy = OriginPolicy([EXACT])
        self.assertFalse(policy.allows([b"https://ws.example.com\xff"]))
        self.assertFalse(policy.allows([b"\xff" * 10]))

    def test_length(self) -> None:
        """An origin of more than 1024 bytes is a mismatch, without being looked at."""
        rest = ".example.org"
        longest = "https://" + "a" * (1024 - len("https://" + rest)) + rest
        self.assertEqual(len(longest), 1024)
        self.check(WILDCARD, [longest], [longest.replace("aaa", "aaaa", 1)])

    def test_wildcard(self) -> None:
        """A leading ``*.`` stands for one or more labels, never for none."""
        allowed = [
            "https://a.example.org",
            "https://a.b.c.example.org",
            "https://A.Example.ORG:443",
            "https://xn--e1afmkfd.example.org",
        ]
        refused = [
            "https://example.org",
            "https://.example.org",
            "https://evilexample.org",
            "https://a.example.org.evil.com",
            "https://a.example.org:8443",
            "http://a.example.org",
            "http://a.example.org:443",
            "wss://a.example.org",
            "https://a.example.com",
            "https://*.example.org",
        ]
        self.check(WILDCARD, allowed, refused)
        self.check("https://*.example.org:8443", ["https://a.example.org:8443"], allowed)

    def test_without_default_port(self) -> None:
        """A scheme without a default port matches with the same port, or none on both sides."""
        option = "chrome-extension://abcdefgh"
        self.check(option, [option], [option + ":1", "https://abcdefgh", option + "i"])
        self.check("app://host:1", ["app://host:1"], ["app://host"])

    def test_addresses(self) -> None:
        """IPv6 addresses are compared as addresses; an IPv4 address is a host like any other."""
        self.check(
            "http://[::1]:8081",
            ["http://[::1]:8081", "http://[0:0:0:0:0:0:0:1]:8081", "http://[0::0:1]:8081"],
            ["http://[::1]", "http://[::2]:8081", "http://[::1::]:8081", "http://::1:8081"],
        )
        self.check("http://[2001:DB8::A]", ["http://[2001:db8:0::a]"], ["http://[2001:db8::b]"])
        self.check("http://127.0.0.1", ["http://127.0.0.1:80"], ["http://127.1", "http://[::1]"])

    def test_several_origins(self) -> None:
        """Each of several origins is allowed, and nothing between them."""
        policy = OriginPolicy([EXACT, WILDCARD, "http://localhost:3000"])
        for origin in (EXACT, "https://a.example.org", "http://localhost:3000"):
            self.assertTrue(policy.allows([origin.encode()]), origin)
        for origin in ("https://localhost:3000", "http://ws.example.com", "https://a.example.com"):
            self.assertFalse(policy.allows([origin.encode()]), origin)


class OptionTests(SynchronousTestCase):
    """What operators write."""

    def refused(self, option: str) -> ConfigurationError:
        """The error about an option."""
        try:
            OriginPolicy([EXACT, option])
        except ConfigurationError as error:
            self.assertEqual((error.name, error.value), ("--origin", option))
            return error
        self.fail(f"{option!r} is taken for an origin")

    def test_text(self) -> None:
        """A policy is shown as it was given."""
        self.assertEqual(str(OriginPolicy()), "any")
        self.assertEqual(str(OriginPolicy([EXACT, WILDCARD])), f"{EXACT}, {WILDCARD}")

    def test_no_origin(self) -> None:
        """What is not an origin is refused, with what would be one."""
        for option in (
            "",
            "*",
            "null",
            "ws.example.com",
            "*.example.com",
            "//ws.example.com",
            "stra\u00dfe.example",
            "https://",
            "https://*",
            "https://*.",
            "https://*.*.example.com",
            "https://ws.*.example.com",
            "https://*ws.example.com",
            "https://ws.example.com/",
            "https://ws.example.com/path",
            "https://user@ws.example.com",
            "https://ws.example.com:0",
            "https://ws.example.com:65536",
            "https://[::1",
            "https://[::g]",
            "https://[1:2]",
            "https://*.[::1]",
            "https://ws.example.com,https://b.example.com",
        ):
            self.assertIn("scheme://host", self.refused(option).accepted)

    def test_international_hosts(self) -> None:
        """A host may be written in its own script; browsers send its ASCII form."""
        cases = {
            "https://b\u00fccher.example": b"https://xn--bcher-kva.example",
            "https://B\u00dcCHER.example:8443": b"https://xn--bcher-kva.example:8443",
            "https://*.b\u00fccher.example": b"https://a.xn--bcher-kva.example",
            "https://b\u00fccher:8443": b"https://xn--bcher-kva:8443",
        }
        for option, origin in cases.items():
            self.assertTrue(OriginPolicy([option]).allows([origin]), option)
            self.assertFalse(OriginPolicy([option]).allows([b"https://bcher.example"]), option)

    def test_ambiguous_hosts(self) -> None:
        """A host that browsers write otherwise than Python has to be given in ASCII."""
        for option in (
            "https://stra\u00dfe.example",
            "https://a\u200db.example",
            "https://" + "\u00fc" * 64 + ".example",
        ):
            self.assertEqual(
                self.refused(option).accepted, "write the host in its ASCII form (xn--...)"
            )


class GeneratedOriginTests(SynchronousTestCase):
    """What holds for every header."""

    policy = OriginPolicy([EXACT, WILDCARD])
    # The whole language that the policy stands for.
    language = re.compile(
        r"https://(?:ws\.example\.com|(?:[a-z0-9_-]+\.)+example\.org)(?::443)?", re.IGNORECASE
    )

    def check(self, header: bytes) -> None:
        """A header is allowed exactly if it is in the language, and parses to that host."""
        expected = header.isascii() and self.language.fullmatch(header.decode("ascii")) is not None
        expected = expected and len(header) <= 1024
        self.assertEqual(self.policy.allows([header]), expected, header)
        if expected:
            parts = urlsplit(header.decode())
            self.assertEqual((parts.scheme, parts.port or 443), ("https", 443))
            host = parts.hostname or ""
            self.assertTrue(host == "ws.example.com" or host.endswith(".example.org"), host)

    @settings(deadline=None, max_examples=200)
    @given(headers=st.lists(st.binary(max_size=80), max_size=3))
    def test_any_bytes(self, headers: list[bytes]) -> None:
        """Arbitrary bytes neither raise nor pass."""
        self.assertEqual(self.policy.allows(headers), not headers)

    @settings(deadline=None, max_examples=400)
    @given(text=NEAR_MISSES | WITH_ALLOWED_START)
    def test_near_misses(self, text: str) -> None:
        """Of all that can be put together from allowed origins, only they pass."""
        self.check(text.encode())
        self.check(text.encode("latin-1", "replace"))

    @settings(deadline=None, max_examples=100)
    @given(
        scheme=st.sampled_from(["https", "http", "HTTPS", "wss"]),
        labels=st.lists(st.sampled_from(["ws", "a", "example", "com", "org", "WS"]), max_size=5),
        port=st.sampled_from(["", ":443", ":80", ":4430"]),
    )
    def test_triples(self, scheme: str, labels: list[str], port: str) -> None:
        """No origin outside the allowed triples passes."""
        self.check(f"{scheme}://{'.'.join(labels)}{port}".encode())

    @settings(deadline=None, max_examples=200)
    @given(option=NEAR_MISSES | WITH_ALLOWED_START | st.text())
    def test_any_option(self, option: str) -> None:
        """An option is an origin or a configuration error, and an origin allows itself."""
        try:
            policy = OriginPolicy([option])
        except ConfigurationError:
            return
        if option.isascii() and "*" not in option:
            self.assertTrue(policy.allows([option.encode()]), option)
        self.assertFalse(policy.allows([b"https://not.among.them"]), option)
