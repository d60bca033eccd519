"""Where a Redis is, as users write it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pinghub.backplane.urls import ACCEPTED, BrokerURL, parse
from pinghub.errors import ConfigurationError

SECRETS = st.text(st.sampled_from("abc:/?#@[]%&= é"), min_size=1)


class AcceptedTests(SynchronousTestCase):
    """What may be written."""

    def test_forms(self) -> None:
        """Each form, with and without what may be left out."""
        one = (("host", 6379),)
        two = (("a", 26379), ("10.0.0.2", 5))
        for text, expected in {
            "redis://host": BrokerURL("redis://host", one),
            "redis://host/": BrokerURL("redis://host/", one),
            "valkey://host:1": BrokerURL("valkey://host:1", (("host", 1),)),
            "redis://[::1]:7/2": BrokerURL("redis://[::1]:7/2", (("::1", 7),), number=2),
            "redis://host?db=3": BrokerURL("redis://host", one, number=3),
            "redis://host/4?db=3": BrokerURL("redis://host/4", one, number=4),
            "redis://:se%40cret@host/1": BrokerURL(
                "redis://host/1", one, number=1, password="se@cret"
            ),
            "rediss://me:secret@host": BrokerURL(
                "rediss://host", one, user="me", password="secret", tls=True
            ),
            "valkeys://host?ssl_ca_certs=/ca&ssl_certfile=/c&ssl_keyfile=/k": BrokerURL(
                "valkeys://host", one, tls=True, authorities="/ca", certificate="/c", key="/k"
            ),
            "unix:///run/redis%20.sock": BrokerURL(
                "unix:///run/redis%20.sock", path="/run/redis .sock"
            ),
            "unix://:secret@/run/redis?db=5": BrokerURL(
                "unix:///run/redis", path="/run/redis", number=5, password="secret"
            ),
            "redis+sentinel://a,10.0.0.2:5/main": BrokerURL(
                "redis+sentinel://a,10.0.0.2:5/main", two, name="main"
            ),
            "rediss+sentinel://:pw@a,10.0.0.2:5/main/6?sentinel_username=u&sentinel_password=p": (
                BrokerURL(
                    "rediss+sentinel://a,10.0.0.2:5/main/6",
                    two,
                    name="main",
                    number=6,
                    password="pw",
                    tls=True,
                    sentinel_user="u",
                    sentinel_password="p",
                )
            ),
        }.items():
            self.assertEqual(parse(text), expected, text)

    def test_namespace(self) -> None:
        """The number of the database is part of the names of channels."""
        self.assertEqual(parse("redis://host").namespace, b"pinghub:0:")
        self.assertEqual(parse("redis://host/12").namespace, b"pinghub:12:")


class RefusedTests(SynchronousTestCase):
    """What may not."""

    def refusal(self, text: str) -> ConfigurationError:
        """The error."""
        error = self.assertRaises(ConfigurationError, parse, text)
        assert isinstance(error, ConfigurationError)
        self.assertEqual(error.name, "--backplane")
        return error

    def test_one_line(self) -> None:
        """The error shows what was written, and what is accepted."""
        for text in (
            "",
            "host",
            "host:6379",
            "http://host",
            "redis://",
            "redis://host:0",
            "redis://host:65536",
            "redis://a,b:7",
            "redis://host/0/1",
            "redis://ho st",
            "redis://host/0#fragment",
            "redis+unix:///run/redis",
        ):
            error = self.refusal(text)
            self.assertEqual(error.value, text)
            self.assertIn("give ", error.accepted)
            self.assertEqual(str(error).count("\n"), 0)
        self.assertEqual(self.refusal("host").accepted, ACCEPTED)

    def test_what_is_wrong(self) -> None:
        """Where it is known what is wrong, the error says that."""
        for text, words in {
            "redis://host/x": "a whole number",
            "redis://host/-1": "a whole number",
            "redis://host?db=1x": "a whole number",
            "redis://me@host": "USER:PASSWORD@",
            "redis://me:@host": "USER:PASSWORD@",
            "redis://host?nonsense=1": "redis knows db behind",
            "rediss://host?nonsense=1": "ssl_ca_certs",
            "redis://host?ssl_ca_certs=/x": "give rediss:// for TLS, which ssl_ca_certs",
            "valkey+sentinel://host/main?ssl_keyfile=/x": "give valkeys+sentinel:// for TLS",
            "unix:///run/redis?ssl_ca_certs=/x": "unix knows db behind",
            "rediss://host?ssl_keyfile=/k": "give ssl_certfile as well",
            "redis://host:\u0663": ACCEPTED,
            "redis://host/\u0663": "a whole number",
            "redis+sentinel://host": "the name that the sentinels know",
            "redis+sentinel://host//1": "the name that the sentinels know",
            "redis+sentinel://host/main?db=1": "sentinel_password behind",
            "unix://host/run/redis": "absolute path",
            "unix://": "absolute path",
            "unix:///": "absolute path",
            "unix:///run/redis%00": "absolute path",
        }.items():
            self.assertIn(words, self.refusal(text).accepted, text)

    @given(SECRETS)
    def test_secrets(self, secret: str) -> None:
        """Whatever is wrong, and whatever the password, the error does not show it."""
        secret = f"~{secret}~"
        for text in (
            f"redis://:{secret}@host/x",
            f"redis://host?sentinel_password={secret}",
            f"redis://:{secret}/host",
            f"redis://me:{secret}",
            f"rediss+sentinel://a,:{secret}:5/main",
            f":{secret}@host:6379",
            f"{secret}@host:6379",
        ):
            try:
                parse(text)
            except ConfigurationError as error:
                self.assertNotIn("~", str(error))

    def test_hidden(self) -> None:
        """What may be a password is not shown, even if something is missing around it."""
        for text in ("redis://:s3cret/h", "redis://:5555/h", "redis://me:s3cret", "redis://[::1"):
            self.assertEqual(self.refusal(text).value, "redis://...")
        for text in (":s3cret@host", "s3cret@host:1", "redis:s3cret"):
            self.assertEqual(self.refusal(text).value, "...")
