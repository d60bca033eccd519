"""What a lost connection to a broker leaves behind, over sockets of this machine: nothing."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.trial.unittest import TestCase

from pinghub.backplane.endpoints import QuietFactory, broker_endpoint
from pinghub.backplane.links import PublishLink
from pinghub.backplane.urls import parse
from pinghub.limits import Limits
from tests.certificates import write_certificate
from tests.filled import FilledListener

reactor: Any = global_reactor
MUCH = 20_000_000
"""More than the kernel takes of it, in bytes."""


class MuteBroker(Protocol):
    """Answers the first question, and reads no further."""

    def __init__(self, kept: list[Protocol]) -> None:
        # The reactor does not know of a transport that neither reads nor writes.
        kept.append(self)

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"+PONG\r\n")
        self.transport.pauseProducing()  # type: ignore[attr-defined]


class LostTests(TestCase):
    """A connection that is lost with something unsent."""

    timeout = 20

    def setUp(self) -> None:
        kept: list[Protocol] = []
        self.broker = QuietFactory(lambda: MuteBroker(kept))
        self.addCleanup(lambda: [each.transport.abortConnection() for each in kept])  # type: ignore[union-attr]
        self.usable: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def ready(self, link: PublishLink) -> None:
        """It can be used."""
        self.usable.callback(None)

    def lost(self, link: object, reason: str) -> None:
        """It is gone."""
        self.gone.callback(None)
        self.reason = reason

    def pause(self) -> Deferred[None]:
        """Some turns of the reactor."""
        over: Deferred[None] = Deferred()
        reactor.callLater(0.05, over.callback, None)
        return over

    async def lose(self, port: Any, url: str, fail: bool = True) -> None:
        """Connect, publish, lose the connection; nothing of it is left without the collector."""
        self.addCleanup(port.stopListening)
        parsed = parse(url.format(port.getHost()))
        limits = Limits(backplane_timeout=1.5)
        factory = QuietFactory(lambda: PublishLink(self, parsed, limits, reactor))
        link: Any = await broker_endpoint(reactor, parsed).connect(factory)
        await self.usable
        raw = getattr(link.transport, "transport", link.transport)
        left = [weakref.ref(each) for each in (link, raw, raw.connector)]
        del raw
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        link.publish(b"a", bytes(MUCH)).addErrback(lambda _: None)
        await self.pause()
        if fail:
            link.fail("enough")
        del link
        await self.gone
        await self.pause()
        self.assertEqual(self.reason, "enough" if fail else "nothing came within 1.5 s")
        self.assertEqual([each() for each in left], [None] * 3)

    def test_tcp(self) -> Coroutine[Any, Any, None]:
        """By TCP."""
        port = reactor.listenTCP(0, self.broker, interface="127.0.0.1")
        return self.lose(port, "redis://127.0.0.1:{0.port}")

    def test_given_up(self) -> Coroutine[Any, Any, None]:
        """Because it says nothing."""
        port = reactor.listenTCP(0, self.broker, interface="127.0.0.1")
        return self.lose(port, "redis://127.0.0.1:{0.port}", fail=False)

    def test_unix(self) -> Coroutine[Any, Any, None]:
        """By a unix socket."""
        path = str(Path("lost.sock").absolute())
        return self.lose(reactor.listenUNIX(path, self.broker), f"unix://{path}")

    def test_tls(self) -> Coroutine[Any, Any, None]:
        """With TLS."""
        path = Path(self.mktemp()).absolute()
        write_certificate(path)
        options = PrivateCertificate.loadPEM(path.read_text()).options()
        port = reactor.listenSSL(0, self.broker, options, interface="127.0.0.1")
        return self.lose(port, f"rediss://localhost:{{0.port}}?ssl_ca_certs={path}")


class GivenUpTests(TestCase):
    """An attempt that is given up before there is a connection."""

    timeout = 20

    async def test_sentinels(self) -> None:
        """While one sentinel does not answer the phone, the next is not called."""
        first = FilledListener()
        self.addCleanup(first.close)
        called: list[object] = []
        factory = Factory.forProtocol(Protocol)
        factory.buildProtocol = called.append  # type: ignore[assignment,method-assign]
        second = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(second.stopListening)
        url = f"redis+sentinel://127.0.0.1:{first.port},127.0.0.1:{second.getHost().port}/name"
        attempt = broker_endpoint(reactor, parse(url)).connect(Factory.forProtocol(Protocol))
        over: Deferred[None] = Deferred()
        reactor.callLater(0.1, over.callback, None)
        await over
        attempt.cancel()
        with self.assertRaises((CancelledError, ConnectingCancelledError)):
            await attempt
        self.assertEqual(called, [])
