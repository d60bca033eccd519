"""All the ways to a real Redis: with a login, by unix sockets, with TLS, through sentinels."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import skipUnless

from tests.backplane.harness import HERE, MISSING, BackplaneTests, Redis
from tests.certificates import write_certificate
from tests.faults.harness import PATIENCE, eventually
from tests.proxies.harness import free_port

CHANNELS = ["resetchannels", "&pinghub:*"]
PAGE = Path(__file__).parents[2] / "docs" / "backplane.md"


@skipUnless(HERE, MISSING)
class ConnectingTests(BackplaneTests):
    """Each of them, with two servers."""

    def check(self, url: str, environment: dict[str, str] | None = None) -> None:
        """Two servers share a channel through this URL; no log shows the password."""
        servers = self.sharing(url, count=2)
        peers = [self.subscriber(each, "/a") for each in servers]
        self.assertEqual(self.post(servers[0], "/a", b"x"), (200, 2))
        for peer in peers:
            self.assertEqual(peer.message(), b"x")
            peer.close()
        for each in servers:
            self.assertEqual(each.stop(), 0)
            self.assertNotIn("secret", "".join(each.output))

    def test_password(self) -> None:
        """With a password alone, which is that of the default user."""
        redis = self.redis(["requirepass", "secret"])
        self.check(redis.url.replace("://", "://:secret@"))
        (stranger,) = self.sharing(redis.url, count=1)
        self.assertEqual(self.said(stranger, "NOAUTH"), 1)
        wrong = redis.url.replace("://", "://:wrongsecret@")
        (stranger,) = self.sharing(wrong, count=1)
        self.assertEqual(self.said(stranger, "WRONGPASS"), 1)
        self.assertNotIn("wrongsecret", "".join(stranger.output))

    def test_access_list(self) -> None:
        """As a user that may do no more than docs/backplane.md says."""
        (line,) = re.findall(r"^user pinghub .*$", PAGE.read_text(), re.MULTILINE)
        redis = self.redis(line.split(), ["user", "default", "off"])
        self.check(redis.url.replace("://", "://pinghub:secret@"))
        redis.login = ("--no-auth-warning", "--user", "pinghub", "--pass", "secret")
        for command in (["set", "a", "b"], ["publish", "elsewhere", "x"], ["flushall"]):
            self.assertIn("NOPERM", redis.cli(*command))

    def test_not_allowed(self) -> None:
        """As a user that may not do what it takes: the log says what is missing."""
        for missing, words in (("subscribe", "NOPERM"), ("ping", "NOPERM")):
            rules = ["+publish", "+subscribe", "+unsubscribe", "+ping", f"-{missing}"]
            redis = self.redis(["user", "default", "on", "nopass", *CHANNELS, "-@all", *rules])
            (server,) = self.sharing(redis.url, count=1)
            self.assertEqual(self.said(server, words), 1, missing)
            redis.kill()

    def test_may_not_publish(self) -> None:
        """As a user that may only subscribe: POSTs are answered 503, and the log says why."""
        rules = ["+subscribe", "+unsubscribe", "+ping"]
        redis = self.redis(["user", "default", "on", "nopass", *CHANNELS, "-@all", *rules])
        (server,) = self.sharing(redis.url, count=1)
        self.assertEqual(self.post(server, "/a", b"x"), (503, -1))
        self.until_said(server, "The backplane refused a message", PATIENCE)
        self.subscriber(server, "/a")

    def test_unix_socket(self) -> None:
        """By a unix socket, with the number of a database."""
        redis = self.redis(start=False)
        path = redis.directory / "redis.sock"
        redis.start("--unixsocket", str(path))
        self.check(f"unix://{path}?db=3")

    def test_databases(self) -> None:
        """Servers with different numbers of databases share nothing."""
        redis = self.redis()
        (one,) = self.sharing(redis.url, count=1)
        (other,) = self.sharing(redis.url.removesuffix("0") + "1", count=1)
        self.subscriber(one, "/a")
        self.assertEqual(self.post(other, "/a", b"x"), (200, 0))
        self.assertEqual(self.post(one, "/a", b"x"), (200, 1))

    def test_tls(self) -> None:
        """With TLS, and with a certificate of our own where the Redis asks for it."""
        redis = self.redis(start=False)
        files = []
        for name in ("server", "client"):
            path = redis.directory / name
            write_certificate(path)
            files.append(path)
        theirs, ours = files
        port = free_port()
        tls = ["--tls-port", str(port), "--tls-cert-file", str(theirs), "--tls-key-file"]
        tls += [str(theirs), "--tls-ca-cert-file", str(ours)]
        redis.start(*tls, "--tls-auth-clients", "no")
        url = f"rediss://localhost:{port}/0"
        self.check(f"{url}?ssl_ca_certs={theirs}")
        (server,) = self.sharing(url, count=1)
        self.assertEqual(self.said(server, "certificate verify failed"), 1)
        redis.kill()
        redis.start(*tls)
        self.check(f"{url}?ssl_ca_certs={theirs}&ssl_certfile={ours}")
        (server,) = self.sharing(f"{url}?ssl_ca_certs={theirs}", count=1)
        self.assertEqual(self.said(server, "The backplane is not there"), 1)

    def test_environment(self) -> None:
        """The URL, which may have a password, can come from the environment alone."""
        redis = self.redis(["requirepass", "secret"])
        url = redis.url.replace("://", "://:secret@")
        self.patch(os, "environ", {**os.environ, "PINGHUB_BACKPLANE": url})
        servers = [self.server(), self.server()]
        self.subscriber(servers[0], "/a")
        self.assertEqual(self.post(servers[1], "/a", b"x"), (200, 1))
        for each in servers:
            command = Path(f"/proc/{each.process.pid}/cmdline").read_bytes()
            self.assertNotIn(b"secret", command)


@skipUnless(HERE, MISSING)
class SentinelTests(BackplaneTests):
    """A master, a replica, and three sentinels that know them by a name."""

    def setUp(self) -> None:
        self.master = self.redis()
        self.replica = self.redis(["replicaof", "127.0.0.1", str(self.master.port)])
        self.sentinels = [self.sentinel() for _ in range(3)]
        eventually(self.all_known, PATIENCE, "the sentinels know everybody")

    def sentinel(self) -> Redis:
        """One of them."""
        sentinel = self.redis(
            ["sentinel", "monitor", "main", "127.0.0.1", str(self.master.port), "2"],
            ["sentinel", "down-after-milliseconds", "main", "500"],
            ["sentinel", "failover-timeout", "main", "3000"],
            start=False,
        )
        sentinel.start("--sentinel")
        return sentinel

    def all_known(self) -> bool:
        """Whether each sentinel knows the replica and the two others."""
        told = [each.cli("sentinel", "master", "main").splitlines() for each in self.sentinels]
        facts = [dict(zip(lines[::2], lines[1::2], strict=True)) for lines in told]
        return all(
            (each["num-slaves"], each["num-other-sentinels"]) == ("1", "2") for each in facts
        )

    def url(self, sentinels: Sequence[Redis]) -> str:
        """Where they are."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in sentinels)
        return f"redis+sentinel://{hosts}/main"

    def test_failover(self) -> None:
        """The master dies: the servers follow to the new one, as soon as there is one."""
        self.sentinels[0].kill()  # One of them is not there; two are enough.
        servers = self.sharing(self.url(self.sentinels))
        peers = [self.subscriber(each, "/a") for each in servers]
        self.assertEqual(self.post(servers[0], "/a", b"before"), (200, 3))
        self.sentinels[0].start("--sentinel")
        self.master.signal(signal.SIGKILL)
        begun = time.monotonic()
        eventually(lambda: "role:master" in self.replica.cli("info", "replication"), PATIENCE, "")
        promoted = time.monotonic() - begun
        took = self.served_again(servers, PATIENCE)
        print(f"\npromoted after {promoted:.1f} s, all reach all {took:.2f} s later")
        self.assertLess(took, 3)
        for peer in peers:
            self.assertEqual(peer.message(), b"before")
            self.assertEqual(peer.message(), b"again")
        for each in servers:
            self.assertEqual(self.said(each, "Lost the backplane"), 1)

    def test_ordered(self) -> None:
        """A failover in good order, and the connections cut then: the servers follow at once."""
        servers = self.sharing(self.url(self.sentinels), count=2)
        peers = [self.subscriber(each, "/a") for each in servers]
        self.assertEqual(self.sentinels[0].cli("sentinel", "failover", "main"), "OK")
        eventually(self.all_name_the_replica, PATIENCE, "all sentinels name the new master")
        for kind in ("pubsub", "normal"):
            self.master.cli("client", "kill", "type", kind)
        begun = time.monotonic()
        for each in servers:
            self.until_said(each, "The backplane is back", 1)
        self.served_again(servers, 1)
        print(f"\nall reach all {time.monotonic() - begun:.2f} s after the connections were cut")
        for peer in peers:
            self.assertEqual(peer.message(), b"again")
        self.assertEqual(self.replica.cli("pubsub", "numsub", "pinghub:0:/a").split()[1], "2")
        self.assertIn("role:master", self.master.cli("info", "replication"))

    def all_name_the_replica(self) -> bool:
        """Whether each sentinel names it as the master."""
        question = ("sentinel", "get-master-addr-by-name", "main")
        told = {each.cli(*question).split()[-1] for each in self.sentinels}
        return told == {str(self.replica.port)}
