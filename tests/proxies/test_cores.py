"""Every core of one machine: nginx in front of processes on unix sockets, restarted one by one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from pinghub.testing import http_request, upgrade_request
from tests.faults.harness import PATIENCE, Crowd, eventually, numbered
from tests.proxies import cases, changes
from tests.proxies.changes import CHANNELS
from tests.proxies.harness import WHO_IS_THERE, NginxTests, directives
from tests.running import Server
from tests.test_systemd import MANY, Unit, listen_on_unix


class CoreTests(NginxTests):
    """Four processes, each with its socket as systemd would hold it."""

    SERVERS = 4
    SOURCE = "nginx/cores.conf"

    def setUp(self) -> None:
        self.units: dict[Server, Unit] = {}
        super().setUp()

    def server(self, port: int = 0, admin_port: int = 0) -> Server:
        number = len(self.units) + 1
        listener = listen_on_unix(self.directory / f"{number}.sock")
        unit = Unit(MANY, listener, self.options(), str(number))
        self.addCleanup(unit.kill)
        return self.start(unit)

    def start(self, unit: Unit) -> Server:
        """Start the process of a unit."""
        server = unit.start()
        self.units[server] = unit
        return server

    def restart(self, number: int) -> None:
        """Stop one of the processes, and start it."""
        old = self.servers[number]
        old.process.terminate()
        self.assertEqual(old.wait(PATIENCE), 0)
        self.servers[number] = self.start(self.units.pop(old))

    def server_lines(self, servers: Sequence[Server]) -> dict[str, str]:
        old = [
            f"        server unix:/run/pinghub/{each}.sock max_fails=0;\n" for each in range(1, 5)
        ]
        paths = [self.units[each].listener.getsockname() for each in servers]
        new = [f"        server unix:{path} max_fails=0;\n" for path in paths]
        return {"".join(old): "".join(new)}

    def owners(self, path: str) -> list[Server]:
        found = []
        for server in self.servers:
            if server.process.returncode is None:
                peer = self.units[server].connect()
                _, count = peer.post(path, WHO_IS_THERE.encode())
                peer.close()
                found += [server] * bool(count)
        return found


class CoreChannelTests(CoreTests, cases.ChannelTests):
    """What holds behind any proxy holds here, and more when a process dies."""

    def test_nothing_is_lost(self) -> None:
        """200 clients on 100 channels, in all four processes, get all messages in order."""
        with Crowd([self.subscribe(path) for path in CHANNELS for _ in range(2)]) as crowd:
            publisher = self.connect()
            for number in range(20):
                for path in CHANNELS:
                    self.assertEqual(publisher.post(path, numbered(number)), (200, 2))
            self.assertTrue(crowd.wait_for(20))
        for reader in crowd.readers:
            self.assertEqual(reader.numbers, list(range(20)))
        owners = Counter(owner for path in CHANNELS for owner in self.owners(path))
        self.assertEqual(owners.total(), len(CHANNELS))
        self.assertEqual(set(owners), set(self.servers))

    def test_a_dead_owner(self) -> None:
        """What is sent to a process that is dead waits for the next one; nobody else takes it."""
        subscribers = {path: self.subscribe(path) for path in CHANNELS}
        owners = {path: self.owners(path) for path in CHANNELS}
        (dead,) = owners["/channel/0"]
        dead.kill()
        for path in CHANNELS:
            if owners[path] == [dead]:
                self.read_to_the_end(subscribers[path])
        waiting, publisher, other = self.connect(), self.connect(), self.connect()
        waiting.send(upgrade_request("/channel/0"))
        publisher.send(http_request("POST", "/channel/0", b"x"))
        for path in CHANNELS:
            if owners[path] != [dead]:
                self.assertEqual(other.post(path, b"x"), (200, 1))
        self.start(self.units.pop(dead))
        self.assertTrue(waiting.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 "))
        status, fields, _ = publisher.response()
        self.assertEqual(status, 200)
        # Whoever waits with it may be taken first.
        self.assertIn(fields["pinghub-subscribers"], ("0", "1"))

    def test_idle(self) -> None:
        """Timeouts, and all else but the servers, are those of ``nginx.conf``, tested elsewhere."""
        self.assertEqual(directives("nginx/cores.conf"), directives("nginx/nginx.conf"))


class CoreChangeTests(CoreTests, changes.ChangeTests):
    """More processes, fewer, and all restarted one after the other."""

    WHILE_STOPPED = ((503, -1),)

    def numbers_of_owners(self) -> dict[str, list[int]]:
        """By which processes each channel is served."""
        return {
            path: [self.servers.index(owner) for owner in owners]
            for path, owners in self.owners_of_all().items()
        }

    def test_restarting(self) -> None:
        """A POST waits, or is answered 503 by the process that stops; all clients come back.

        Nothing is lost without a word, and each process keeps its channels.
        """
        before = self.numbers_of_owners()
        begun = time.monotonic()
        for number in range(self.SERVERS):
            self.restart(number)
            self.publisher.until_all_listen()
        self.assertLessEqual(self.publisher.since(begun), {(200, 1), (200, 0), *self.WHILE_STOPPED})
        # Not at once: --max-age lets some of them reconnect at any moment.
        eventually(lambda: self.numbers_of_owners() == before, PATIENCE, "the same owners")
        self.check_promise()
