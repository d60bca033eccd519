"""Channels behind nginx and HAProxy, and what happens when the set of servers changes."""

from __future__ import annotations

import time
from collections import defaultdict

from tests.faults.harness import PATIENCE
from tests.proxies import cases
from tests.proxies.changes import A_SHARE
from tests.proxies.harness import WHO_IS_THERE, HAProxyTests, NginxTests
from tests.running import Server


class NginxChannelTests(NginxTests, cases.ChannelTests):
    """Behind nginx."""

    def owner_of(self, path: str) -> Server:
        """The only server on which a channel has subscribers."""
        (owner,) = self.owners(path)
        return owner

    def test_the_bound_of_old_workers(self) -> None:
        """Clients that are not made to move before are closed with the old worker.

        Meanwhile the publisher is told 0 subscribers where its channel has moved before them.
        """
        self.proxy.stop()
        self.proxy.configure({"worker_shutdown_timeout 60s": "worker_shutdown_timeout 2s"})
        self.proxy.start()
        channels = [f"/channel/{number}" for number in range(100)]
        before = {path: (self.subscribe(path), self.owner_of(path)) for path in channels}
        gone = self.servers[-1]
        self.use(self.servers[:-1])
        moved = [path for path in channels if before[path][1] is gone]
        # Ketama: what moves is what the server had, and nothing else.
        self.assertIn(len(moved), A_SHARE)
        publisher = self.connect()
        for path in moved:
            self.assertEqual(publisher.post(path, b"x"), (200, 0), path)
        for path in set(channels) - set(moved):
            self.assertEqual(publisher.post(path, b"x"), (200, 1), path)
        # The old worker closes what it still has: clients reconnect, to the new owner.
        begun = time.monotonic()
        for path in channels:
            self.read_to_the_end(before[path][0])
        self.assertLess(time.monotonic() - begun, 5)
        for path in channels:
            self.subscribe(path)
            self.assertEqual(publisher.post(path, b"x"), (200, 1), path)


class HAProxyChannelTests(HAProxyTests, cases.ChannelTests):
    """Behind HAProxy."""

    def options(self) -> list[str]:
        return ["--stop-delay=2s", "--drain=2s"]

    def test_stopping_a_server(self) -> None:
        """A server that is told to stop: its clients are told to go, its channels are elsewhere.

        No POST is refused on the way, and nobody is cut off, publishers neither. A message may find
        nobody while the clients reconnect; the publisher learns that from the number of
        subscribers. What was answered with one has arrived.
        """
        channels = [f"/channel/{number}" for number in range(60)]
        peers = {path: self.subscribe(path) for path in channels}
        gone = self.servers[-1]
        moved = [path for path in channels if self.owners(path) == [gone]]
        self.assertIn(len(moved), A_SHARE)
        gone.process.terminate()
        publisher = self.connect()
        answers = defaultdict[str, list[tuple[int, int]]](list)
        while gone.process.poll() is None:
            for path in moved:
                answers[path].append(publisher.post(path, b"x"))
            time.sleep(0.01)
        self.assertEqual(gone.wait(PATIENCE), 0)
        for path in moved:
            self.assertEqual(set(answers[path]), {(200, 1), (200, 0)}, path)
            self.assertEqual(peers[path].message(), WHO_IS_THERE.encode())
            for _ in range(answers[path].count((200, 1))):
                self.assertEqual(peers[path].message(), b"x")
            self.assertEqual(peers[path].frame().code, 1001)
            self.subscribe(path)
            self.assertEqual(publisher.post(path, b"x"), (200, 1), path)
        for path in set(channels) - set(moved):
            self.assertEqual(publisher.post(path, b"x"), (200, 1), path)
