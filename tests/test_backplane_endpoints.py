"""Connecting to a broker, over sockets of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import PrivateCertificate
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from pinghub.backplane.endpoints import UnknownMasterError, broker_endpoint
from pinghub.backplane.links import PublishLink
from pinghub.backplane.urls import parse
from pinghub.errors import ConfigurationError
from pinghub.limits import Limits
from tests.certificates import write_certificate
from tests.redis_in_memory import MemoryRedis, Session

reactor: Any = global_reactor


class SessionProtocol(Protocol):
    """A connection to a Redis in memory, over a socket."""

    redis: MemoryRedis

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.session = Session(self.redis, self.transport)  # type: ignore[arg-type]
        self.redis.sessions.append(self.session)

    def dataReceived(self, data: bytes) -> None:
        self.session.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.session.connectionLost(reason)


class SessionFactory(Factory):
    """Connections to one."""

    noisy = False
    protocol = SessionProtocol

    def __init__(self) -> None:
        self.redis = MemoryRedis(reactor)

    def buildProtocol(self, addr: object) -> SessionProtocol:
        protocol = SessionProtocol()
        protocol.redis = self.redis
        return protocol


class ConnectTests(TestCase):
    """A Redis that listens, and a connection to it."""

    timeout = 20

    def setUp(self) -> None:
        self.factory = SessionFactory()
        self.redis = self.factory.redis

    def ready(self, link: PublishLink) -> None:
        """It can be used: that was all."""
        self.outcome.callback("ready")
        link.transport.loseConnection()

    def lost(self, link: object, reason: str) -> None:
        """It is gone."""
        if not self.outcome.called:
            self.outcome.callback(reason)
        self.gone.callback(None)

    async def connect(self, url: str) -> str:
        """Connect, and introduce ourselves; what became of it."""
        self.outcome: Deferred[str] = Deferred()
        self.gone: Deferred[None] = Deferred()
        parsed = parse(url)
        factory = Factory.forProtocol(lambda: PublishLink(self, parsed, Limits(), reactor))
        factory.noisy = False
        await broker_endpoint(reactor, parsed).connect(factory)
        outcome = await self.outcome
        await self.gone
        return outcome

    def listen(self, port: Any) -> Any:
        """Until the test is over."""
        self.addCleanup(port.stopListening)
        return port

    def tcp(self, factory: Factory | None = None) -> int:
        """Listen on a port of loopback."""
        port = reactor.listenTCP(0, factory or self.factory, interface="127.0.0.1")
        return int(self.listen(port).getHost().port)


class EndpointTests(ConnectTests):
    """By TCP, by a unix socket, with TLS."""

    async def test_tcp(self) -> None:
        """By TCP."""
        self.assertEqual(await self.connect(f"redis://127.0.0.1:{self.tcp()}"), "ready")
        self.assertEqual(await self.connect(f"redis://localhost:{self.tcp()}"), "ready")

    async def test_unix(self) -> None:
        """By a unix socket."""
        path = str(Path("redis.sock").absolute())
        self.listen(reactor.listenUNIX(path, self.factory))
        self.assertEqual(await self.connect(f"unix://{path}"), "ready")

    async def test_nobody_there(self) -> None:
        """Nobody listens there."""
        port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        number = port.getHost().port
        await port.stopListening()
        with self.assertRaises(ConnectionRefusedError):
            await self.connect(f"redis://127.0.0.1:{number}")

    def certificate(self) -> tuple[Path, PrivateCertificate]:
        """A certificate for localhost, with its key, in a file."""
        path = Path(self.mktemp()).absolute()
        write_certificate(path)
        return path, PrivateCertificate.loadPEM(path.read_text())

    def tls(self, *clients: PrivateCertificate) -> str:
        """Listen with TLS, for all or for some clients; the URL for those who trust it."""
        path, certificate = self.certificate()
        options = certificate.options(*clients)
        port = self.listen(reactor.listenSSL(0, self.factory, options, interface="127.0.0.1"))
        return f"rediss://localhost:{port.getHost().port}?ssl_ca_certs={path}"

    async def test_tls(self) -> None:
        """With TLS, to a server whose certificate we trust, and to no other."""
        url = self.tls()
        self.assertEqual(await self.connect(url), "ready")
        self.assertIn("certificate verify failed", await self.connect(url.partition("?")[0]))
        other = url.replace("localhost", "127.0.0.1")
        self.assertIn("the certificate is not for 127.0.0.1", await self.connect(other))

    async def test_own_certificate(self) -> None:
        """With a certificate of our own, if the server wants one; its key may be another file."""
        path, ours = self.certificate()
        url = self.tls(ours)
        self.assertEqual(await self.connect(f"{url}&ssl_certfile={path}"), "ready")
        begin = "-----BEGIN CERTIFICATE-----"
        key, _, certificate = path.read_text().partition(begin)
        key_path, certificate_path = Path(self.mktemp()), Path(self.mktemp())
        key_path.write_text(key)
        certificate_path.write_text(begin + certificate)
        files = f"&ssl_certfile={certificate_path}&ssl_keyfile={key_path}"
        self.assertEqual(await self.connect(url + files), "ready")
        self.assertNotEqual(await self.connect(url), "ready")

    def test_files(self) -> None:
        """A file that cannot be used is one line at the start."""
        empty = Path(self.mktemp())
        empty.write_text("nothing")
        begin = "-----BEGIN CERTIFICATE-----"
        one, other = (self.certificate()[0].read_text().partition(begin) for _ in range(2))
        certificate, key = Path(self.mktemp()), Path(self.mktemp())
        certificate.write_text(begin + one[2])
        key.write_text(other[0])
        for query, words in (
            ("ssl_ca_certs=/nonexistent", "ssl_ca_certs=/nonexistent: no such file or directory"),
            (f"ssl_ca_certs={empty}", f"ssl_ca_certs={empty}: there is no such certificate"),
            (f"ssl_certfile={empty}", f"ssl_certfile={empty}: there is no such certificate"),
            (f"ssl_certfile={empty}&ssl_keyfile=/nonexistent", ", /nonexistent: no such file"),
            (f"ssl_certfile={certificate}", f"={certificate}: there is no such certificate, or"),
            (f"ssl_certfile={certificate}&ssl_keyfile={key}", f"{key}: the key is not that of"),
        ):
            url = parse(f"rediss://localhost?{query}")
            error = self.assertRaises(ConfigurationError, broker_endpoint, reactor, url)
            self.assertIn(words, str(error))


class SentinelTests(ConnectTests):
    """A master, and the sentinels that know it."""

    def setUp(self) -> None:
        super().setUp()
        self.sentinels = [SessionFactory(), SessionFactory()]
        self.ports = [self.tcp(each) for each in self.sentinels]
        self.master = self.tcp()
        self.tell("main", self.master)

    def tell(self, name: str, port: int) -> None:
        """Let the sentinels know a master."""
        for each in self.sentinels:
            each.redis.masters[name.encode()] = (b"127.0.0.1", b"%d" % port)

    def url(self, name: str = "main", more: str = "", user: str = "") -> str:
        """The URL of a name that the sentinels may know."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{user}{hosts}/{name}{more}"

    async def test_master(self) -> None:
        """Whom the sentinels name is connected to, and they are asked each time."""
        self.assertEqual(await self.connect(self.url()), "ready")
        other = SessionFactory()
        self.tell("main", self.tcp(other))
        self.assertEqual(await self.connect(self.url()), "ready")
        self.assertEqual(other.redis.count("PING"), 1)
        self.assertEqual(self.redis.count("PING"), 1)

    async def test_another_role(self) -> None:
        """Whom they name has to be a master still."""
        self.redis.role = b"slave"
        self.assertIn("no master any more", await self.connect(self.url()))

    async def test_one_of_them(self) -> None:
        """One sentinel that is there is enough; each attempt begins with another one."""
        url = parse(self.url())
        endpoint = broker_endpoint(reactor, url)
        for number, sentinel in enumerate((*self.sentinels, *self.sentinels)):
            before = sentinel.redis.count("SENTINEL")
            protocol: Any = await endpoint.connect(Factory.forProtocol(Protocol))
            self.assertEqual(sentinel.redis.count("SENTINEL"), before + 1, number)
            protocol.transport.loseConnection()
        self.sentinels[0].redis.masters.clear()
        self.sentinels[1].redis.errors["sentinel"] = b"ERR no"
        with self.assertRaises(UnknownMasterError) as caught:
            await endpoint.connect(Factory.forProtocol(Protocol))
        self.assertIn("no sentinel knows main; 127.0.0.1:", str(caught.exception))
        self.tell("main", self.master)
        protocol = await endpoint.connect(Factory.forProtocol(Protocol))
        protocol.transport.loseConnection()

    async def test_login(self) -> None:
        """The sentinels have a login of their own."""
        for each in self.sentinels:
            each.redis.password = (b"watcher", b"secret")
        with self.assertRaises(UnknownMasterError):
            await self.connect(self.url())
        login = "?sentinel_username=watcher&sentinel_password=secret"
        self.assertEqual(await self.connect(self.url(more=login)), "ready")

    async def test_silent(self) -> None:
        """A sentinel that says nothing is not waited for long."""
        for each in self.sentinels:
            each.redis.stop()
        with self.assertRaises(UnknownMasterError):
            await self.connect(self.url())

    async def test_given_up(self) -> None:
        """An attempt that is given up asks no further sentinel."""
        self.sentinels[0].redis.stop()
        attempt = broker_endpoint(reactor, parse(self.url())).connect(Factory.forProtocol(Protocol))
        while not self.sentinels[0].redis.sessions:
            waiting: Deferred[None] = Deferred()
            reactor.callLater(0.01, waiting.callback, None)
            await waiting
        attempt.cancel()
        with self.assertRaises(CancelledError):
            await attempt
        self.assertEqual(self.sentinels[1].redis.commands, [])
