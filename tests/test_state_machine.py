"""The channels as their users see them, against a model, over generated histories."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from pinghub.limits import Limits
from pinghub.testing import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    MemoryServer,
    Peer,
    client_frame,
    upgrade_request,
)

EXAMPLES = int(os.environ.get("PINGHUB_EXAMPLES", "500"))
STEPS = 50
CHANNELS = ("/", "/a", "/b")
ROOM = 60
BACKLOG = 2048
LIMITS = Limits(max_message=1000, max_backlog=BACKLOG, ping_interval=0, fanout_slice=3)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)


@dataclass(eq=False)
class Member:
    """What the model knows of a subscriber.

    Attributes:
        peer: its connection.
        channel: its channel.
        slow: whether it reads only when the history says so.
        due: the messages that it has to receive.
        seen: the messages that it has received.
    """

    peer: Peer
    channel: str
    slow: bool
    due: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def collect(self) -> None:
        """Read what has arrived."""
        self.seen += [each for each in self.peer.texts() if each]


class Histories(RuleBasedStateMachine):
    """Subscribers come, publish, stall and go in every way; the model says who gets what."""

    members = Bundle("members")

    def __init__(self) -> None:
        super().__init__()
        self.server = MemoryServer(LIMITS)
        self.here: dict[str, list[Member]] = {name: [] for name in CHANNELS}

    def publish(self, channel: str, text: str) -> int:
        """What the model expects of a publish: all who are there get it."""
        for member in self.here[channel]:
            member.due.append(text)
        return len(self.here[channel])

    def leave(self, member: Member) -> None:
        """The member is not subscribed any more."""
        if member in self.here[member.channel]:
            self.here[member.channel].remove(member)

    def is_here(self, member: Member) -> bool:
        """Whether the member is still subscribed."""
        return member in self.here[member.channel]

    def notice_evictions(self) -> None:
        """Slow members, and they alone, may be given up by the server."""
        for channel in self.here.values():
            for member in list(channel):
                if member.peer.transport.reset:
                    assert member.slow, "a healthy subscriber was evicted"
                    channel.remove(member)

    # Coming.

    @rule(target=members, channel=st.sampled_from(CHANNELS), slow=st.booleans())
    def subscribe(self, channel: str, slow: bool) -> Member:
        peer = self.server.subscribe(channel)
        peer.transport.room = ROOM if slow else None
        member = Member(peer, channel, slow)
        self.here[channel].append(member)
        return member

    @rule(target=members, channel=st.sampled_from(CHANNELS), before=texts, after=texts)
    def subscribe_during_a_publish(self, channel: str, before: str, after: str) -> Member:
        peer = self.server.connect()
        assert self.server.manager.publish(channel, before) == self.publish(channel, before)
        peer.deliver(upgrade_request(channel))
        member = Member(peer, channel, slow=False)
        self.here[channel].append(member)
        assert self.server.manager.publish(channel, after) == self.publish(channel, after)
        self.server.reactor.turn()
        assert peer.response().status == 101
        return member

    # Publishing.

    @rule(channel=st.sampled_from(CHANNELS), text=texts)
    def post(self, channel: str, text: str) -> None:
        response = self.server.post(channel, text.encode())
        assert response.headers["pinghub-subscribers"] == str(self.publish(channel, text))

    @rule(channel=st.sampled_from(CHANNELS), several=st.lists(texts, min_size=1, max_size=5))
    def publish_in_one_turn(self, channel: str, several: list[str]) -> None:
        for text in several:
            assert self.server.manager.publish(channel, text) == self.publish(channel, text)
        self.server.reactor.turn()

    @rule(member=members, text=texts, cut=st.integers(0, 200))
    def send(self, member: Member, text: str, cut: int) -> None:
        payload = text.encode()
        data = client_frame(TEXT, payload[:cut], fin=False) + client_frame(0, payload[cut:])
        if self.is_here(member):
            self.publish(member.channel, text)
        member.peer.send(data)

    @rule(member=members)
    def heartbeat(self, member: Member) -> None:
        member.peer.send(client_frame(TEXT) + client_frame(PONG))
        self.server.run(0.25)

    @rule(member=members, text=texts)
    def heartbeat_during_a_publish(self, member: Member, text: str) -> None:
        channel = member.channel
        assert self.server.manager.publish(channel, text) == self.publish(channel, text)
        member.peer.deliver(client_frame(TEXT))
        self.server.reactor.turn()

    @rule(member=members)
    def ping(self, member: Member) -> None:
        member.peer.send(client_frame(PING, b"p"))
        self.server.run(0.25)

    # Leaving.

    @rule(member=consumes(members), text=texts)
    def close(self, member: Member, text: str) -> None:
        if self.is_here(member):
            self.publish(member.channel, text)
        member.peer.send(client_frame(TEXT, text.encode()) + client_frame(CLOSE, b"\x03\xe8"))
        if self.is_here(member) and not member.slow:
            member.collect()
            assert member.seen == member.due
        self.leave(member)

    @rule(member=consumes(members))
    def vanish(self, member: Member) -> None:
        self.leave(member)
        if not member.peer.transport.disconnected:
            member.peer.close()

    @rule(member=consumes(members), text=texts)
    def vanish_during_a_publish(self, member: Member, text: str) -> None:
        expected = self.publish(member.channel, text)
        assert self.server.manager.publish(member.channel, text) == expected
        if self.is_here(member):
            member.due.pop()
        self.leave(member)
        if not member.peer.transport.disconnected:
            member.peer.close()
        self.server.reactor.turn()

    @rule(member=consumes(members))
    def violate(self, member: Member) -> None:
        self.leave(member)
        member.peer.send(client_frame(BINARY, b"x"))

    @rule(member=members)
    def break_off(self, member: Member) -> None:
        member.peer.transport.broken = True
        if self.is_here(member):
            text = "finds it broken"
            self.publish(member.channel, text)
            self.server.manager.publish(member.channel, text)
            member.slow = True
            self.server.reactor.turn()
            if not member.peer.transport.reset:  # It had a backlog: nothing was written.
                member.peer.transport.broken = False

    # Reading, and time.

    @rule(member=members, size=st.integers(1, 2000))
    def read(self, member: Member, size: int) -> None:
        member.peer.read(size)

    @precondition(lambda self: any(member.slow for each in self.here.values() for member in each))
    @rule()
    def stall(self) -> None:
        for channel in self.here.values():
            for member in channel:
                if not member.slow:
                    member.collect()
        self.server.run(12)

    @invariant()
    def healthy_members_have_everything(self) -> None:
        self.notice_evictions()
        for channel in self.here.values():
            for member in channel:
                if not member.slow:
                    member.collect()
                    assert member.seen == member.due

    @invariant()
    def the_server_agrees_who_is_there(self) -> None:
        for name, members in self.here.items():
            assert self.server.manager.subscribers(name) == len(members)
        assert len(self.server.manager) == sum(1 for each in self.here.values() if each)

    @invariant()
    def backlogs_are_bounded(self) -> None:
        members = sum(len(each) for each in self.here.values())
        assert self.server.manager.backlog.size <= (members + 1) * BACKLOG

    def teardown(self) -> None:
        self.slow_members_have_a_prefix()
        self.nothing_is_left()

    def slow_members_have_a_prefix(self) -> None:
        """Who reads late has everything too, unless it was given up; and never a gap."""
        for channel in self.here.values():
            for member in list(channel):
                member.collect()
                self.notice_evictions()
                assert member.seen == member.due[: len(member.seen)]
                if self.is_here(member):
                    assert member.seen == member.due

    def nothing_is_left(self) -> None:
        """When all have gone, the server keeps nothing for them."""
        for connection in [*self.server.manager.connections.subscribers]:
            connection.abort()
        self.server.run(5)
        assert len(self.server.manager) == 0
        assert len(self.server.manager.connections) == 0
        assert (self.server.manager.backlog.size, len(self.server.manager.backlog)) == (0, 0)
        assert len(self.server.manager.sweep) == 0


class StateMachineTests(SynchronousTestCase):
    """All histories."""

    def test_histories(self) -> None:
        """Over all generated histories, everyone gets what the model says, in order."""
        run_state_machine_as_test(
            Histories,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
