"""The websocket side of a channel: the only module that knows Autobahn.

Autobahn parses the frames; what it leaves open or does otherwise is settled here:

* Its options are settled in ``autobahn_options.py``, once for all connections.
* Its parser, with its state, is made for a connection when a frame comes that is not plain.
* Its timers are not used: the sweep of the manager keeps all deadlines. Its timers run on a
  loop of their own whatever reactor it is given.
* Dropping a connection is replaced by a close frame that arrives.
* Whatever is sent goes through the outbox, so that it is bounded and in order.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionRequest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from pinghub.arrivals import ANYBODY, Arrival
from pinghub.autobahn_options import SettledOptions
from pinghub.backplane import COST, Backplane
from pinghub.channels import ChannelManager
from pinghub.errors import Unavailable
from pinghub.frames import (
    EMPTY_TEXT,
    PING,
    CloseCode,
    Control,
    close_frame,
    plain_control,
    plain_texts,
    pong_frame,
)
from pinghub.handshake import Handshake, accepted
from pinghub.logs import Log, address_text
from pinghub.outbox import Outbox
from pinghub.rates import Rate
from pinghub.stats import CloseReason
from pinghub.takeover import Head, Seat
from pinghub.transports import direct_socket, has_unsent, is_bare, shut_down_writing

CONNECTING = WebSocketServerProtocol.STATE_CONNECTING
OPEN = WebSocketServerProtocol.STATE_OPEN
CLOSING = WebSocketServerProtocol.STATE_CLOSING
CLOSED = WebSocketServerProtocol.STATE_CLOSED


class SubscriberProtocol(SettledOptions, WebSocketServerProtocol):  # type: ignore[misc]
    """One websocket: a subscriber of its channel, and a publisher to it.

    Args:
        channel: the name of the channel.
        arrival: whose it is.
    """

    factory: SubscriberFactory
    message_data: list[bytes]
    closeable = True

    # Most connections never get to change these, and share them.
    state = CONNECTING
    _parsing = False
    _fragments = 0
    _incomplete = False
    _paused = False  # Neither read nor parsed: resting, or held.
    _full = False
    _unconfirmed = 0
    _pong_end = 0
    _publishes: Rate | None = None
    _arrival = ANYBODY

    def __init__(self, channel: str, arrival: Arrival) -> None:
        # Autobahn's own is called when its parser is needed.
        self.channel_name = channel
        if arrival is not ANYBODY:
            self._arrival = arrival
        # What heartbeats change has its place from the beginning: an object that gets further
        # attributes later, when there are others of its class, keeps all of them in a dict.
        self.data = b""
        self._progress = False
        self._pinged = False
        self._controls: Rate | None = None

    @property
    def backlog(self) -> int:
        """How many bytes wait for the client to read."""
        return self._outbox.size

    def address(self) -> str:
        """The address of the client, for the log."""
        return self._arrival.client or address_text(self.transport.getPeer())

    @property
    def peer(self) -> str:
        """The same, for Autobahn."""
        return self.address()

    @property
    def maxMessagePayloadSize(self) -> int:
        """The largest message, for the parser."""
        return self.factory.manager.limits.max_message

    # Opening.

    def connectionMade(self) -> None:
        """Take the connection over from the HTTP request that asked for it."""
        manager = self.factory.manager
        self._outbox = Outbox(
            self.transport,
            direct_socket(self.transport),
            self,
            manager.limits,
            manager.sweep,
            manager.backlog,
        )
        manager.connections.subscribers.add(self)

    def accept(self, handshake: Handshake) -> None:
        """Answer a handshake that leaves nothing to agree on, and open."""
        answer = accepted(handshake.key)
        if has_unsent(self.transport):
            self._outbox.start(answer)
        else:
            self._outbox.send(answer)
        if self.state == CONNECTING:
            self.state = OPEN
            self.onOpen()

    def onConnect(self, request: ConnectionRequest) -> str | None:
        """Accept the first subprotocol offered: browsers fail the connection otherwise."""
        offered: list[str] = request.protocols
        return offered[0] if offered else None

    def _onOpen(self) -> None:
        # Autobahn's own looks up certificates and channel ids that nobody asks for.
        self.onOpen()

    def onOpen(self) -> None:
        """Subscribe, in the same reactor turn in which the 101 goes out."""
        manager = self.factory.manager
        manager.subscribe(self.channel_name, self)
        manager.stats.subscriptions += 1
        limits, sweep = manager.limits, manager.sweep
        if limits.ping_interval:
            # Spread, so that connections that came together are not pinged together.
            sweep.arm(self._heartbeat, limits.ping_interval * random.uniform(0.5, 1.0))
        if limits.max_age:
            sweep.arm(self._aged, limits.max_age * random.uniform(0.9, 1.0))
        if limits.max_publish_rate:
            self._publishes = Rate(manager.clock, limits.max_publish_rate)
        self.factory.log.debug("Subscribed", channel=self.channel_name, peer=self.address)

    # Receiving.

    def dataReceived(self, data: bytes) -> None:
        """Parse what arrived; after the close frame of a failure, discard it."""
        if self._pinged:
            self._alive()
        if self.state != CLOSED:
            self.data = self.data + data if self.data else data
            self.consumeData()
        self._watch_incomplete()

    def consumeData(self) -> None:
        """Parse what has arrived and is not parsed yet, some of it in this turn."""
        if self.state == CONNECTING:
            self._begin_parsing()
            super().consumeData()
        elif not self._paused:
            self._parse()

    def _parse(self) -> None:
        """Parse up to ``Limits.frame_slice`` frames; then let the others have their turn.

        One read can hold thousands of tiny frames.
        """
        left = self.factory.manager.limits.frame_slice
        while self.state != CLOSED:
            if self._full:
                self._hold()
                return
            if left <= 0 and self.data:
                self._rest()
                return
            if self.current_frame is None:
                if not self.data:
                    return
                if not self.inside_message:
                    taken = self._take_plain_texts(left) or self._take_plain_control()
                    left -= taken
                    if taken:
                        continue
            self._begin_parsing()
            if not self.processData():
                return
            left -= self.current_frame is None

    def _begin_parsing(self) -> None:
        """Make the state of Autobahn's parser, unless there is one."""
        if not self._parsing:
            self._parsing = True
            state, data = self.state, self.data
            super().__init__()
            self._connectionMade()
            self.state, self.data = state, data

    def _take_plain_texts(self, most: int) -> int:
        """Take the messages that need no parser, if any are next; how many."""
        texts, end = plain_texts(self.data, self.maxMessagePayloadSize, most)
        if texts:
            self._progress = True
            self.data = self.data[end:]
            for text in texts:
                if self.state == CLOSED:
                    break
                self.onMessage(text, False)
        return len(texts)

    def _take_plain_control(self) -> bool:
        """Take the control frame that needs no parser, if one is next."""
        found = plain_control(self.data)
        if found is None:
            return False
        opcode, payload, end = found
        self._progress = True
        self.data = self.data[end:]
        if opcode is Control.PING:
            self.onPing(payload)
        elif opcode is Control.PONG:
            self.onPong(payload)
        else:
            code = int.from_bytes(payload[:2]) if payload else None
            self.onCloseFrame(code, payload[2:] or None)
        return True

    def _rest(self) -> None:
        """Read no more in this turn."""
        self._pause()
        self.factory.manager.clock.callLater(0, self._go_on)

    def _hold(self) -> None:
        """Read no more until the backplane has taken some of what was read."""
        self._pause()

    def _pause(self) -> None:
        self._paused = True
        self.transport.pauseProducing()

    def _go_on(self) -> None:
        self._paused = False
        try:
            self._parse()
            self._watch_incomplete()
        except Exception as error:
            self.factory.log.failure("A connection failed to take its input", error)
            self._evict(CloseReason.FAULT)
        if not self._paused:
            self.transport.resumeProducing()
            if self._pinged:
                self._await_pong()

    def _alive(self) -> None:
        # Any byte is a sign of life: a pong may wait behind a message in the peer's buffers.
        limits, sweep = self.factory.manager.limits, self.factory.manager.sweep
        self._pinged = False
        sweep.disarm(self._ping_timeout)
        sweep.arm(self._heartbeat, limits.ping_interval)

    def _watch_incomplete(self) -> None:
        """Keep the deadline of the message that has begun to arrive, if there is one."""
        incomplete = self.state != CLOSED and bool(
            self.inside_message
            or self.current_frame is not None
            or (self.data and not self._paused)
        )
        progress, self._progress = self._progress, False
        if incomplete == self._incomplete and not (incomplete and progress):
            return
        self._incomplete = incomplete
        sweep = self.factory.manager.sweep
        if incomplete:
            sweep.arm(self._too_slow, self.factory.manager.limits.body_timeout)
        else:
            sweep.disarm(self._too_slow)

    def _too_slow(self) -> None:
        self._fail_connection(CloseCode.POLICY_VIOLATION, "the message did not arrive in time")

    def onMessageBegin(self, isBinary: bool) -> None:
        """Refuse binary messages as soon as they begin."""
        self._fragments = 0
        super().onMessageBegin(isBinary)
        if isBinary:
            self._fail_connection(CloseCode.UNSUPPORTED_DATA, "send text, not binary")

    def onMessageFrameBegin(self, length: int) -> None:
        """Refuse too many fragments; empty ones slip past Autobahn's bound on the size."""
        self._fragments += 1
        super().onMessageFrameBegin(length)
        if self._fragments > self.factory.manager.limits.max_fragments:
            self._fail_connection(CloseCode.MESSAGE_TOO_BIG, "too many fragments")

    def onFrameEnd(self) -> bool | None:
        """Note when a message, or a control frame outside of one, is complete."""
        failed: bool | None = super().onFrameEnd()
        if not self.inside_message:
            self._progress = True
        return failed

    def onMessageEnd(self) -> None:
        """Take a complete message. Autobahn's own also makes a Deferred for each."""
        parts, self.message_data = self.message_data, []
        self.onMessage(b"".join(parts), False)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Publish a message; answer an empty one, which is a heartbeat."""
        if not payload:
            self._answer_heartbeat()
        elif self.factory.takes_posts_only(self.channel_name):
            self._fail_connection(
                CloseCode.POLICY_VIOLATION, "this channel takes messages by POST only"
            )
        elif self._publishes is not None and not self._publishes.allows():
            self._fail_connection(CloseCode.POLICY_VIOLATION, "too many messages per second")
        else:
            factory = self.factory
            try:
                handed = factory.publish(self.channel_name, payload)
            except Unavailable as refusal:
                self._fail_connection(CloseCode.TRY_AGAIN_LATER, refusal.text)
                return
            factory.manager.stats.sent += 1
            if not isinstance(handed, int):
                self._await(handed, len(payload) + COST)

    def _await(self, handed: Deferred[int], size: int) -> None:
        """Let a message be on its way; at ``Limits.publish_window`` bytes of them, read no more."""
        handed.addCallbacks(self._taken, self._not_taken, callbackArgs=(size,), errbackArgs=(size,))
        self._unconfirmed += size
        self._full = self._unconfirmed > self.factory.manager.limits.publish_window

    def _taken(self, _: object, size: int) -> None:
        self._unconfirmed -= size
        if self._full and self._unconfirmed <= self.factory.manager.limits.publish_window:
            self._full = False
            self._go_on()

    def _not_taken(self, failure: Failure, size: int) -> None:
        refusal = failure.value
        if not isinstance(refusal, Unavailable):
            self.factory.log.failure("A message could not be published", refusal)
            if self.state == OPEN:
                self._evict(CloseReason.FAULT)
        elif self.state == OPEN:
            self._fail_connection(CloseCode.TRY_AGAIN_LATER, refusal.text)
        self._taken(None, size)

    def _answer_heartbeat(self) -> None:
        if self.state == OPEN:  # No data may follow our close frame.
            self._catch_up()
            self._outbox.send(EMPTY_TEXT)

    def onPing(self, payload: bytes) -> None:
        """Answer a ping, unless a pong already waits to be sent (RFC 6455 section 5.5.3)."""
        if self._control_allowed() and (
            self.state == OPEN and self._outbox.queued - self._outbox.size >= self._pong_end
        ):
            self._catch_up()
            self._outbox.send(pong_frame(payload))
            self._pong_end = self._outbox.queued

    def onPong(self, payload: bytes) -> None:
        """A sign of life like any other. Some clients send pongs unasked; a flood is none."""
        self._control_allowed()

    def _control_allowed(self) -> bool:
        """Count a ping or pong; who sends too many is given up."""
        if self._controls is None:
            manager = self.factory.manager
            self._controls = Rate(manager.clock, manager.limits.controls_per_second)
        if self._controls.allows():
            return True
        self._evict(CloseReason.CONTROL_FLOOD)
        return False

    # Sending.

    def deliver(self, frames: bytes) -> None:
        """Send the messages of the channel; a fault ends this connection and no other."""
        try:
            self._outbox.send(frames)
        except Exception as error:
            self.factory.log.failure("A connection failed to take a message", error)
            self._evict(CloseReason.FAULT)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Send what Autobahn has to say: the 101, or why there is none."""
        self._outbox.start(data)

    def _catch_up(self) -> None:
        """Let no control frame overtake a message that was published before."""
        channel = self.factory.manager.channel(self.channel_name)
        if channel is not None:
            channel.catch_up(self)

    # Heartbeat and age.

    def _heartbeat(self) -> None:
        manager = self.factory.manager
        if self._outbox.waiting or self._paused:
            # The stall clock watches whoever has a backlog; a ping would only queue behind it.
            # And whom we do not read cannot answer.
            manager.sweep.arm(self._heartbeat, manager.limits.ping_interval)
            return
        self._pinged = True
        self._await_pong()
        self._outbox.send(PING)

    def _await_pong(self) -> None:
        manager = self.factory.manager
        manager.sweep.arm(self._ping_timeout, manager.limits.ping_timeout)

    def _ping_timeout(self) -> None:
        if not self._paused:  # What it says may wait in the socket; the time begins anew then.
            self._evict(CloseReason.PING_TIMEOUT)

    def _aged(self) -> None:
        self.close(CloseCode.GOING_AWAY, "this connection has reached its age: reconnect")

    # Closing. The state leaves OPEN and the channel is left in one step, always.

    def go_away(self) -> None:
        """Close because the server stops."""
        self.close(CloseCode.GOING_AWAY, "the server stops: reconnect")

    def close(self, code: CloseCode, reason: str) -> None:
        """Begin the closing handshake, behind all that is pending.

        The connection ends when the peer has answered, and after ``Limits.close_timeout``
        whatever the peer does.
        """
        self.sendCloseFrame(code, reason.encode(), isReply=False)

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Send a close frame, our own or an answer to the peer's."""
        if self.state == OPEN:
            self._leave(catch_up=True)
            self._outbox.send(close_frame(code, (reasonUtf8 or b"").decode()))
            self.state = CLOSING
            self._end_in_time()

    def _fail_connection(self, code: int = CloseCode.GOING_AWAY, reason: str = "") -> None:
        """Fail the connection (RFC 6455 section 7.1.7): say why, and hear no more."""
        if self.state == OPEN:
            self._leave(catch_up=True)
            self._outbox.send(close_frame(code, reason))
            self.factory.manager.stats.failures[int(code)] += 1
            self.factory.log.debug(
                "Failed a connection", code=int(code), reason=reason, peer=self.address
            )
        self.failedByMe = True
        self.dropConnection()

    def dropConnection(self, abort: bool = False) -> None:
        """Shut down writing behind the last frame; discard input until the peer is gone.

        Autobahn aborts instead when it has begun the closing: the reset that follows lets
        browsers report an unclean end, and may make the peer lose the close frame.
        """
        self.state = CLOSED
        self.data = b""
        self._watch_incomplete()
        self._end_in_time()
        self._outbox.finish(self._shut_down)

    def _shut_down(self) -> None:
        shut_down_writing(self.transport)

    def _end_in_time(self) -> None:
        # Armed once: no second violation may prolong the end.
        manager = self.factory.manager
        if not manager.sweep.is_armed(self._close_timeout):
            manager.sweep.arm(self._close_timeout, manager.limits.close_timeout)

    def _close_timeout(self) -> None:
        self.factory.manager.stats.evictions[CloseReason.CLOSE_TIMEOUT] += 1
        self.abort()

    def abort(self) -> None:
        """End the connection at once."""
        self._leave(catch_up=False)
        self.state = CLOSED
        self._outbox.close()
        self.transport.abortConnection()

    def _leave(self, catch_up: bool) -> None:
        manager = self.factory.manager
        if catch_up:
            self._catch_up()
        manager.unsubscribe(self.channel_name, self)
        self._pinged = False
        manager.sweep.disarm(self._heartbeat)
        manager.sweep.disarm(self._ping_timeout)
        manager.sweep.disarm(self._aged)

    def _evict(self, reason: CloseReason) -> None:
        self.factory.manager.stats.evictions[reason] += 1
        self.factory.log.info(
            "Evicted a subscriber",
            reason=reason.value,
            channel=self.channel_name,
            peer=self.address,
        )
        self.abort()

    def overflowed(self, everyone: bool) -> None:
        """The backlog is above its bound (outbox)."""
        self._evict(CloseReason.TOTAL_BACKLOG if everyone else CloseReason.BACKLOG)

    def stalled(self) -> None:
        """Nothing was taken for too long (outbox)."""
        self._evict(CloseReason.STALLED)

    def broken(self) -> None:
        """The connection turned out to be lost while writing (outbox)."""
        self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection, however it ended."""
        manager = self.factory.manager
        self._leave(catch_up=False)
        self._outbox.close()
        manager.sweep.disarm(self._close_timeout)
        manager.sweep.disarm(self._too_slow)
        manager.connections.subscribers.discard(self)
        if self._arrival.place is not None:
            self._arrival.place.leave()
        # Autobahn would resolve a Deferred of ours with ourselves, which is a cycle.
        self.state = CLOSED
        if self._parsing:
            self._connectionLost(reason)
        self.factory.log.debug("Unsubscribed", channel=self.channel_name, peer=self.address)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Nothing: the channel was left before, and this may come without ``onOpen``."""


class Upgrade(WebSocketResource):  # type: ignore[misc]  # Autobahn is untyped
    """Autobahn's resource, with a short way for the handshake that everyone sends.

    Args:
        protocol: the subscriber that takes the connection over.
    """

    def __init__(self, protocol: SubscriberProtocol) -> None:
        super().__init__(Seat(protocol))
        self._protocol = protocol

    def render(self, request: Head) -> Any:
        """Hand the connection to the protocol, and answer 101.

        Autobahn negotiates subprotocols, and knows what to do with TLS and other wrappers.
        """
        transport, protocol = request.transport, self._protocol
        if request.handshake.subprotocol is not None or not is_bare(transport):
            return super().render(request)
        request.channel.transport = None
        transport.protocol = protocol
        protocol.makeConnection(transport)
        transport.resumeProducing()
        protocol.accept(request.handshake)
        return NOT_DONE_YET


class SubscriberFactory(WebSocketServerFactory):  # type: ignore[misc]  # Autobahn is untyped
    """Turns upgrade requests into subscribers of a channel.

    Args:
        manager: the channels.
        backplane: where messages are published.
        takes_posts_only: whether subscribers may not publish to a channel of that name.
        log: where to log.
    """

    noisy = False

    def __init__(
        self,
        manager: ChannelManager,
        backplane: Backplane,
        takes_posts_only: Callable[[str], bool],
        log: Log,
    ) -> None:
        # An empty server name leaves out the Server header: it would name a version.
        super().__init__(server="", reactor=manager.clock)
        self.manager = manager
        self.publish = backplane.publish
        self.takes_posts_only = takes_posts_only
        self.log = log

    def upgrade(self, http: Any, channel: str, handshake: Handshake, arrival: Arrival) -> None:
        """Answer 101 and subscribe, before this returns.

        Args:
            http: the HTTPChannel that got the request.
            channel: the name of the channel.
            handshake: what was read from the head.
            arrival: whose it is.
        """
        protocol = SubscriberProtocol(channel, arrival)
        protocol.factory = self
        # HTTPChannel registered itself as the transport's producer and would stay so, and
        # alive, as long as the connection lives.
        http.transport.unregisterProducer()
        Upgrade(protocol).render(Head(http, handshake))
        # What came behind the head was kept for a next request, which never comes; and the rest of
        # a read that held more than the head is still on its way into the HTTPChannel.
        early, http._dataBuffer = http._dataBuffer, []
        http.rawDataReceived = protocol.dataReceived
        if hasattr(http, "taken_over"):  # Sites other than ours have channels that do not care.
            http.taken_over()
        http.requests.clear()
        for data in early:
            protocol.dataReceived(data)
