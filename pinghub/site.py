"""The hardened HTTP front: deadlines, size caps, and refusals that arrive.

twisted.web's HTTPChannel parses; what is bounded here happens before or around it. Mounted in
somebody else's Site, a PinghubResource has to live with that site's bounds.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from http import HTTPStatus
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString
from twisted.web.resource import IResource
from twisted.web.server import Request, Site
from zope.interface import implementer

from pinghub.access_log import AccessLog
from pinghub.answers import Answers
from pinghub.arrivals import TOO_MANY, count_connection, host_of
from pinghub.backplane import COST
from pinghub.channels import ChannelManager
from pinghub.clients import Place
from pinghub.errors import (
    BadRequest,
    HeadTooLarge,
    InternalError,
    MessageTooLarge,
    Refusal,
    RequestTimeout,
    TooManyConnections,
    UriTooLong,
)
from pinghub.handshake import PlainHandshake, asks_for_websocket, has_body, plain_handshake
from pinghub.logs import Log
from pinghub.plain_posts import plain_post
from pinghub.resource import SERVER, PinghubResource, refuse
from pinghub.transports import (
    bound_writes,
    introducer,
    is_bare,
    shut_down_writing,
    write_at_once,
)

# The longest Content-Length that is read as a number: more digits are a size that no bound
# allows, and more than some thousands raise in Python's int().
_MOST_DIGITS = 18
_RAW_BYTES = re.compile(rb"[\x80-\xff]")


class Phase(Enum):
    """What a connection waits for; each has its deadline."""

    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    NEXT = auto()


class PinghubRequest(Request):
    """A request whose body stays in memory, bounded by ``Limits.max_message``."""

    channel: PinghubChannel
    content: BytesIO
    site: PinghubSite

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory: twisted.web would use a file for a large one."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Collect the body; a chunked one shows its size only as it comes."""
        limit = self.channel.limits.max_message
        if self.channel.refused:
            return
        if self.content.tell() + len(data) > limit:
            self.channel.refuse(MessageTooLarge(limit))
            return
        self.content.write(data)

    def process(self) -> None:
        """Find the resource; ``*`` and absolute targets have none."""
        if self.uri.startswith(b"/"):
            super().process()
            return
        refusal = BadRequest("The request target has to be a path that begins with a slash.")
        self.channel.refuse(refusal)

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer a fault of ours, without details."""
        self.site.log_failure("A request failed", reason.value)
        if self.startedWriting:
            # Half an answer must not look like a whole one.
            self.channel.abort()
            return reason
        self.site.manager.stats.refusals[InternalError.label] += 1
        body = refuse(self, InternalError())
        self.setHeader("Content-Length", str(len(body)))
        self.write(body)
        self.finish()
        return reason


@implementer(IHalfCloseableProtocol)
class PinghubChannel(HTTPChannel):
    """One HTTP connection, until it ends or becomes a websocket.

    Bounded: the head in size, lines and time; the body in size and time; the idle time
    between requests; and the answers that wait for a peer that does not read: while more than
    ``Limits.response_queue`` bytes wait, neither are requests parsed nor bytes read.

    Attributes:
        place: its place among the connections of its client, if they are counted.
    """

    place: Place | None = None
    site: PinghubSite
    transport: Any  # None once the websocket side has taken it over

    def connectionMade(self) -> None:
        """Start the first deadline."""
        manager = self.site.manager
        self.limits = manager.limits
        self.refused = False
        self._sweep = manager.sweep
        self._answered = 0
        self._taken = 0
        self._resting = self._held = self._half_closed = False
        self._owed: Answers | None = None
        self._fields = 0
        self._head_size = 0
        self._watched: tuple[Phase, int] | None = None
        self._answered_at = 0
        self._introduced = True
        self.MAX_LENGTH = self.limits.head_line
        # Both are counted here, where they get an answer of their own.
        self.totalHeadersSize = self.maxHeaders = 1 << 30
        bound_writes(self.transport, self.limits.response_queue)
        self._write = write_at_once if is_bare(self.transport) else _write_later
        super().connectionMade()
        manager.connections.requesters.add(self)
        self._watch()
        self._meet()

    # Who it is.

    def _meet(self) -> None:
        """Count the connection, or wait for the PROXY header that tells whose it is."""
        proxy = introducer(self.transport)
        if proxy is None:
            self._count()
        elif self.site.manager.proxies.may_introduce(host_of(proxy)):
            self._introduced = False
        else:
            self.site.log_stranger(proxy)
            self.abort()

    def _count(self) -> None:
        """Count the connection; who has too many is told so, or not even that."""
        self._introduced = True
        place = self.place = self.site.count(self.transport)
        if place is not None and place.over:
            self.site.log_crowd(self.transport)
            if place.far_over:
                self.abort()
            else:
                self.refuse(TooManyConnections())

    # Deadlines.

    @property
    def busy(self) -> bool:
        """Whether a request has begun to arrive and is not answered yet."""
        return not self.refused and self._phase() is not Phase.NEXT

    def _phase(self) -> Phase:
        if self._owing:
            return Phase.ANSWER
        if not self.requests:
            begun = self._buffer or not self._answered
            return Phase.HEAD if begun else Phase.NEXT
        if self.line_mode:
            return Phase.HEAD
        return Phase.ANSWER if self._handlingRequest else Phase.BODY

    def _watch(self) -> None:
        """Arm the deadline of the phase, once for each phase of each request.

        That of an idle connection is prolonged when it comes: there may be thousands of
        requests until then.
        """
        if self.transport is None:
            return  # What was answered last was a handshake.
        if self._half_closed and not self._answering():
            self.go_away()
            return
        phase, answered = self._phase(), self._answered
        if phase is Phase.NEXT:
            self._answered_at, answered = self._sweep.turns, 0
        watched = (phase, answered)
        if self.refused or watched == self._watched:
            return
        self._watched = watched
        match phase:
            case Phase.HEAD:
                self._sweep.arm(self._too_late, self.limits.head_timeout)
            case Phase.BODY:
                self._sweep.arm(self._too_late, self.limits.body_timeout)
            case Phase.NEXT:
                self._sweep.arm(self._too_late, self.limits.keepalive_timeout)
            case _:
                self._sweep.disarm(self._too_late)

    def _too_late(self) -> None:
        if self._phase() is Phase.NEXT:
            idle = self._sweep.served_since(self._answered_at)
            if idle < self.limits.keepalive_timeout:
                self._sweep.arm(self._too_late, self.limits.keepalive_timeout - idle)
            else:
                self.go_away()
        elif not (self.requests or self._buffer):
            self.go_away()
        else:
            self.refuse(RequestTimeout("The request did not arrive in time."))

    # Parsing.

    def dataReceived(self, data: bytes) -> None:
        """Parse what arrived; after a refusal, discard it."""
        if not self._introduced:
            self._count()
        if self.refused:
            return
        if not self._busyReceiving:
            self._taken = 0
            if self._upgraded(data):
                return
            data = self._take_plain_posts(data)
        if data or self._buffer:
            super().dataReceived(data)
        self._watch()

    def _upgraded(self, data: bytes) -> bool:
        """Whether the first bytes of the connection were a handshake that needs no parser."""
        if self._begun() or self.transport.disconnecting:
            return False
        longest = min(self.limits.head_line, self.limits.head_size)
        plain = plain_handshake(data, longest, self.limits.head_fields)
        transport = self.transport
        if plain is None or not self.site.upgrade(self, plain):
            return False
        if self.site.access_log is not None:
            line, _, head = data[: plain.end].partition(b"\r\n")
            self.site.access_log.plain(transport, line, b"\r\n" + head, b"")
        if plain.end < len(data):
            self.rawDataReceived(data[plain.end :])
        return True

    def taken_over(self) -> None:
        """The connection is a websocket from now on; its request, if there is one, never ends."""
        if self.requests and self.site.access_log is not None:
            self.site.access_log.request(self.requests[-1], HTTPStatus.SWITCHING_PROTOCOLS)
        self._released()

    def _begun(self) -> bool:
        """Whether anything was received before."""
        return bool(self._answered or self.requests or self._head_size or self._buffer)

    def _take_plain_posts(self, data: bytes) -> bytes:
        """Answer the POSTs that need no parser, if any are next; what is left for the parser."""
        if not self._between_requests():
            return data
        # The parser may have kept something that is no whole line, or came while we rested.
        data, self._buffer = self._buffer + data, b""
        answers: list[bytes] = []
        taken = end = 0
        while taken < self.limits.request_slice and not self._held:
            post = plain_post(data, end, self.limits)
            if post is None:
                break
            target, body, after = post
            answer = self.site.answer_post(target, body)
            if answer is None:
                break
            if self.site.access_log is not None:
                self._log_post(data[end : after - len(body)], answer)
            if isinstance(answer, bytes) and self._owed is None:
                answers.append(answer)
            else:
                self._owe(answer, after - end + COST)
            taken += 1
            end = after
        if taken:
            self._answered += taken
            self._taken += taken
            if answers:
                self._send(b"".join(answers))
            self._give_way(end < len(data))
        if self._owing and end < len(data):
            self._hold()  # The parser would answer at once.
        return data[end:]

    def _log_post(self, head: bytes, answer: bytes | Deferred[bytes]) -> None:
        line, _, fields = head.partition(b"\r\n")
        if isinstance(answer, bytes):
            self._logged(answer, line, b"\r\n" + fields)
        else:
            answer.addCallback(self._logged, line, b"\r\n" + fields)

    def _logged(self, answer: bytes, line: bytes, fields: bytes) -> bytes:
        assert self.site.access_log is not None
        self.site.access_log.plain(self.transport, line, fields, answer)
        return answer

    # Answers that take some time.

    @property
    def _owing(self) -> bool:
        return self._owed is not None and self._owed.size > 0

    def _owe(self, answer: bytes | Deferred[bytes], size: int) -> None:
        """Answer later; with ``Limits.publish_window`` bytes of them, read no more."""
        if self._owed is None:
            self._owed = Answers(self._send, self._sent)
        self._owed.add(answer, size)
        if self._owed.size > self.limits.publish_window:
            self._hold()

    def _hold(self) -> None:
        self._held = self.paused = True
        self._networkProducer.pauseProducing()

    def _send(self, data: bytes) -> None:
        self._write(self.transport, data)

    def _sent(self) -> None:
        """Some of what was owed was sent: go on with what was held."""
        assert self._owed is not None
        if self._held and self._owed.size <= self.limits.publish_window:
            self._held = False
            self._read_on()
        if not self._owing:
            self._watch()

    def _between_requests(self) -> bool:
        """Whether what comes next begins a request, and may be answered at once."""
        return bool(
            self.line_mode  # Not within a body, an answer, or a last request.
            and not self._head_size  # A blank line, which is ignored, begins a head as well.
            and not self.paused
            and not self.transport.disconnecting
        )

    def lineReceived(self, line: bytes) -> None:
        """Take one line of a head."""
        if self.requests:
            self._head_size += len(line) + 2
            if self._head_size > self.limits.head_size:
                self.refuse(HeadTooLarge("The request head is too large."))
                return
        else:
            self._head_size = len(line) + 2
            # curl sends what was typed; browsers escape it. Both name one channel.
            line = _RAW_BYTES.sub(lambda byte: b"%%%02X" % ord(byte[0]), line)
        super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line of a head that is too long."""
        if self.requests:
            self.refuse(HeadTooLarge("A header line is too long."))
        else:
            self.refuse(UriTooLong("The request line is too long."))

    def headerReceived(self, line: bytes) -> bool:
        """Take one header field; whether it was good."""
        self._fields += 1
        if self._fields > self.limits.head_fields:
            self.refuse(HeadTooLarge("The request has too many header fields."))
            return False
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(value.strip()) > _MOST_DIGITS:
            self.refuse(MessageTooLarge(self.limits.max_message))
            return False
        good: bool = super().headerReceived(line)
        return good

    def allHeadersReceived(self) -> None:
        """Refuse a body that will not be taken before it is sent, and before a 100."""
        self._fields = self._head_size = 0
        headers = self.requests[-1].requestHeaders

        def values(name: bytes) -> list[bytes]:
            found: list[bytes] = headers.getRawHeaders(name, [])
            return found

        if self.length is not None and self.length > self.limits.max_message:
            self.refuse(MessageTooLarge(self.limits.max_message))
        elif self._command == b"GET" and asks_for_websocket(values) and has_body(values):
            self.refuse(BadRequest("A websocket handshake has no body."))
        else:
            super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """Answer a complete request."""
        if not self.refused:
            super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """Wait for the next request."""
        self._answered += 1
        self._taken += 1
        super().requestDone(request)
        if self.transport is not None:
            self._give_way(bool(self._buffer))
        if not self._busyReceiving:
            self._watch()

    def _give_way(self, more: bool) -> None:
        """Rest when this turn's share is taken and more has arrived."""
        if more and self._taken >= self.limits.request_slice and not self._resting:
            self._rest()

    def _rest(self) -> None:
        """Let the others have their turn; one read can hold a thousand requests."""
        self._resting = self.paused = True
        self._networkProducer.pauseProducing()
        self.site.manager.clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._resting = False
        self._read_on()

    def _read_on(self) -> None:
        self.paused = self._resting or self._held or self._waitingForTransport
        if self.paused:
            # HTTPChannel reads on as soon as its answers were taken, whatever else it waits for.
            self._networkProducer.pauseProducing()
        else:
            self._networkProducer.resumeProducing()
            self.dataReceived(b"")

    def pauseProducing(self) -> None:
        """Too many answers wait: parse no more requests, and read no more."""
        super().pauseProducing()
        self.paused = True
        # HTTPChannel leaves the transport running while it handles a request, which is when
        # answers are written: what came in would pile up unparsed.
        self._networkProducer.pauseProducing()

    def resumeProducing(self) -> None:
        """The answers were taken: go on with what was read already."""
        super().resumeProducing()
        self._read_on()

    # Refusing and closing.

    def refuse(self, refusal: Refusal) -> None:
        """Answer a request that is not worth parsing to its end, and close.

        The peer may still be sending: it gets the answer and the end of the stream, and what
        it sends is discarded for ``Limits.close_timeout``.
        """
        if self.refused:
            return
        self.refused = True
        self.site.manager.stats.refusals[refusal.label] += 1
        # The parser's loops end where there is nothing left to parse.
        self.clearLineBuffer()
        answer = _answer(refusal)
        self.transport.write(answer)
        if self.site.access_log is not None:
            size = len(answer) - answer.index(b"\r\n\r\n") - 4
            self.site.access_log.refused(self.transport, refusal.status, size)
        self.transport.unregisterProducer()
        self._networkProducer.resumeProducing()
        self._end_in_time()
        shut_down_writing(self.transport)

    def _respondToBadRequestAndDisconnect(self) -> None:
        # HTTPChannel calls this for whatever it cannot parse; its own answer has no text.
        self.refuse(BadRequest("The request is malformed."))

    def _end_in_time(self) -> None:
        self._sweep.disarm(self._too_late)
        self._sweep.arm(self.abort, self.limits.close_timeout)

    def abort(self) -> None:
        """Close at once."""
        self.transport.abortConnection()

    def go_away(self) -> None:
        """Close, after what was answered has been sent."""
        # In this order: closing what is half closed already ends it at once.
        self._end_in_time()
        self.loseConnection()

    def readConnectionLost(self) -> None:
        """The peer sends no more: let it have what was answered, or is going to be."""
        self._half_closed = True
        self._watch()

    def _answering(self) -> bool:
        """Whether something that the peer has sent is still to be answered."""
        if self._owing or (self.paused and self._buffer):
            return True
        # A channel that has answered its last request handles it still, but has it no more.
        handled = self._handlingRequest and self.requests
        return bool(handled and self.requests[-1].method == b"POST")

    def writeConnectionLost(self) -> None:
        """We send no more, after a refusal; what the peer sends is discarded."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection, and what it sent that nobody has looked at yet."""
        self._released()
        if self._owed is not None:
            self._owed.close()
        self.clearLineBuffer()
        super().connectionLost(reason)

    def _released(self) -> None:
        """The connection is lost, or belongs to the websocket side now."""
        # The decoder of a body holds methods of ours: a cycle, if the body did not end.
        self._transferDecoder = None
        self._sweep.disarm(self._too_late)
        self._sweep.disarm(self.abort)
        self.site.manager.connections.requesters.discard(self)
        if self.place is not None:
            self.place.leave()


def _write_later(transport: Any, data: bytes) -> None:
    transport.write(data)


def _answer(refusal: Refusal) -> bytes:
    body = refusal.text.encode() + b"\n"
    fields = {
        "Server": SERVER,
        "Date": datetimeToString().decode(),
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **refusal.headers,
    }
    lines = [f"HTTP/1.1 {refusal.status.value} {refusal.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class PinghubSite(Site):
    """A site that enforces every bound of the HTTP side.

    With a PinghubResource at its root, most POSTs are answered without a request object of
    twisted.web; subclasses of either get one for each.

    Args:
        resource: the root; a PinghubResource, or a tree that has one somewhere. Note that
            the bound on bodies holds for the whole tree.
        manager: the channels, which bring the bounds and the clock.
        log: where to log; a log of its own when absent.
        private: whether it is for operators, whose connections are not counted.
        access_log: where each request has its line, if that is wanted.

    Attributes:
        manager: as given.
        access_log: as given.
    """

    protocol = PinghubChannel  # type: ignore[assignment]  # Twisted declares a function here
    noisy = False

    def __init__(
        self,
        resource: IResource,
        manager: ChannelManager,
        log: Log | None = None,
        *,
        private: bool = False,
        access_log: AccessLog | None = None,
    ) -> None:
        super().__init__(
            resource,
            requestFactory=PinghubRequest,
            reactor=manager.clock,
            parsePOSTFormSubmission=False,
        )
        # PinghubChannel has deadlines of its own.
        self.timeOut = None
        self.displayTracebacks = False
        self.manager = manager
        self.access_log = access_log
        self._log_lines = log or Log(manager.clock, manager.limits)
        self._private = private

    def count(self, transport: Any) -> Place | None:
        """Count a connection for its client; its place, if it is counted."""
        return None if self._private else count_connection(transport, self.manager)

    def upgrade(self, http: PinghubChannel, plain: PlainHandshake) -> bool:
        """Let the resource at the root answer a plain handshake, if it can; whether it did."""
        root = self._lane()
        return root is not None and root.upgrade(http, plain)

    def answer_post(self, target: bytes, body: bytes) -> bytes | Deferred[bytes] | None:
        """Answer a plain POST, if the resource at the root can; otherwise None."""
        root = self._lane()
        return root.post(target, body) if root is not None else None

    def _lane(self) -> PinghubResource | None:
        """The resource at the root, if it answers what is plain without a request object.

        Subclasses may want to see every request, and a tree has to be walked for each.
        """
        root = self.resource
        if type(self) is PinghubSite and type(root) is PinghubResource:
            return root
        return None

    def log_failure(self, kind: str, error: BaseException | None) -> None:
        """Log a fault of a resource."""
        self._log_lines.failure(kind, error)

    def log_stranger(self, transport: Any) -> None:
        """Log a connection that wants to say whose it is, and is not trusted to."""
        self._log_lines.info("Refused a PROXY header: see --trust-proxy", peer=host_of(transport))

    def log_crowd(self, transport: Any) -> None:
        """Log a connection of a client that has too many."""
        self._log_lines.info(TOO_MANY, client=host_of(transport))

    def startFactory(self) -> None:
        """Nothing: Site would start a clock for its access log, and there is none."""

    def stopFactory(self) -> None:
        """Nothing was started."""

    def log(self, request: object) -> None:
        """Write a line for a request that was answered."""
        if self.access_log is not None:
            self.access_log.request(request)

    def acceptableProtocols(self) -> list[bytes]:
        """Websockets begin as HTTP/1.1 (RFC 6455)."""
        return [b"http/1.1"]
