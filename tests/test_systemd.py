"""The units in ``deploy/systemd``: sound, hardened, and restarts that refuse nobody."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType

from twisted.trial.unittest import SynchronousTestCase

from pinghub.cli import CommandOptions
from pinghub.frames import CloseCode
from pinghub.testing import CLOSE, http_request, upgrade_request
from tests.faults.harness import PATIENCE, Peer, eventually
from tests.running import Server

UNITS = Path(__file__).parent.parent / "deploy" / "systemd"
PROGRAM = "/opt/pinghub/bin/pinghub"
ONE, MANY = "pinghub.service", "pinghub@.service"
FILES = (ONE, MANY, "pinghub.socket", "pinghub@.socket")

# What systemd does for a process: its socket as descriptor 3, and what tells that it is there.
ACTIVATE = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); "
    "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='pinghub', LISTEN_PID=str(os.getpid())); "
    "os.execv(sys.executable, [sys.executable, '-m', 'pinghub', *sys.argv[2:]])"
)

# For private endpoints: an address of loopback that nobody else has, by our process id. A port of
# 127.0.0.1 may be taken by any connection while a server is restarted.
LOOPBACK = IPv4Address((127 << 24 | 64 << 16) + os.getpid())


def settings(unit: str) -> dict[str, list[str]]:
    """The settings of a unit file, with all their values."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def setting(unit: str, name: str) -> str:
    """The only value of a setting of a unit file."""
    (value,) = settings(unit)[name]
    return value


def command(unit: str, instance: str = "1") -> list[str]:
    """The command line of a service."""
    return shlex.split(setting(unit, "ExecStart").replace("%i", instance))


def environment(unit: str) -> dict[str, str]:
    """The variables of a service."""
    return dict(line.split("=", 1) for line in settings(unit).get("Environment", []))


def seconds(unit: str, name: str) -> float:
    """The value of a setting that is a time in seconds."""
    return float(setting(unit, name).removesuffix("s"))


class Unit:
    """A service as systemd runs it: its socket is held here, whether a server runs or not.

    Args:
        service: the unit file.
        listener: the socket, which listens.
        options: further options of the server.
        instance: what ``%i`` stands for.

    Attributes:
        listener: as given.
        server: the server that runs, or ran last.
    """

    server: Server

    def __init__(
        self,
        service: str,
        listener: socket.socket,
        options: Sequence[str] = (),
        instance: str = "1",
    ) -> None:
        self.listener = listener
        program, *given = command(service, instance)
        assert program == PROGRAM
        private = f"--admin={LOOPBACK}:{9080 + int(instance)}"
        own = [re.sub(r"^--admin=.*", private, each) for each in given]
        self._options = [*own, *options]
        inherited = {key: os.environ[key] for key in os.environ if not key.startswith("PINGHUB_")}
        self._environment = inherited | environment(service)

    def start(self) -> Server:
        """Start a server, and wait until it accepts connections."""
        descriptor = self.listener.fileno()
        activate = [sys.executable, "-c", ACTIVATE, str(descriptor)]
        server = self.server = Server(
            *self._options, addr=False, command=activate, environment=self._environment
        )
        server.pass_fds = (descriptor,)
        server.__enter__()
        return server

    def kill(self) -> None:
        """End everything."""
        self.server.kill()
        self.listener.close()

    def connect(self) -> Peer:
        """A connection to the socket, which is made whether a server runs or not."""
        connection = socket.socket(self.listener.family)
        try:
            connection.settimeout(PATIENCE)
            connection.connect(self.listener.getsockname())
        except BaseException:
            connection.close()
            raise
        return Peer(connection)


class Posts:
    """One POST after the other, in a thread of its own.

    Args:
        connect: makes a connection.
        keep: whether to stay on a connection as long as that works.

    Attributes:
        answers: how often which status came, or which error.
    """

    def __init__(self, connect: Callable[[], Peer], *, keep: bool) -> None:
        self.answers: Counter[int | str] = Counter()
        self._connect = connect
        self._keep = keep
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Posts:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._use(self._connect())
            except (EOFError, OSError) as error:
                self.answers[repr(error)] += 1

    def _use(self, peer: Peer) -> None:
        try:
            status = 200
            while status == 200 and not self._stopped.is_set():
                status, _ = peer.post("/a", b"x")
                self.answers[status] += 1
                if not self._keep:
                    break
        finally:
            peer.close()

    def go_on(self) -> None:
        """Wait until some more were answered."""
        goal = self.answers.total() + 20
        eventually(lambda: self.answers.total() > goal, PATIENCE, f"answers: {self.answers}")


class UnitTests(SynchronousTestCase):
    """What the unit files say."""

    def test_options(self) -> None:
        """The services give options that exist, and listen on nothing but their sockets."""
        for service, address in {
            ONE: "systemd:domain=INET6:index=0",
            MANY: "systemd:domain=UNIX:index=0",
        }.items():
            program, *arguments = command(service)
            self.assertEqual(program, PROGRAM)
            options = CommandOptions(environment(service))
            options.parseOptions(arguments)
            self.assertEqual(options["addr"], [address])
        self.assertEqual(setting("pinghub.socket", "ListenStream"), "[::]:8081")
        self.assertEqual(setting("pinghub@.socket", "ListenStream"), "/run/pinghub/%i.sock")

    def test_private_endpoints(self) -> None:
        """Each process has a private endpoint of its own, on loopback."""
        found = set()
        for line in (command(ONE), *(command(MANY, str(number)) for number in (1, 2, 10, 64))):
            options = CommandOptions({})
            options.parseOptions(line[1:])
            (address,) = options["admin"]
            self.assertRegex(address, r"^127\.0\.0\.\d+:90\d\d$")
            found.add(address)
        self.assertEqual(len(found), 5)

    def test_time_to_stop(self) -> None:
        """A server is told by SIGTERM, and has longer to stop than it takes."""
        for service in (ONE, MANY):
            options = CommandOptions(environment(service))
            options.parseOptions(command(service)[1:])
            limits = options["limits"]
            longest = limits.stop_delay + limits.drain + limits.close_timeout
            self.assertGreater(seconds(service, "TimeoutStopSec"), longest)
            self.assertEqual(setting(service, "KillSignal"), "SIGTERM")

    def test_a_queue_for_a_restart(self) -> None:
        """As many may wait in the socket as the kernel allows by default."""
        for unit in ("pinghub.socket", "pinghub@.socket"):
            self.assertEqual(setting(unit, "Backlog"), "4096")

    def test_alike(self) -> None:
        """Both services differ in what they listen on, and in whom they talk to, alone."""
        one, many = settings(ONE), settings(MANY)
        own = {"Environment", "IPAddressDeny", "IPAddressAllow"}
        self.assertEqual(set(many) - set(one), own)
        different = {name for name in one if one[name] != many[name]}
        self.assertEqual(different, {"Description", "Requires", "ExecStart", "Also"})


class AnalysisTests(SynchronousTestCase):
    """What systemd itself says of them."""

    if shutil.which("systemd-analyze") is None:
        skip = "there is no systemd-analyze on this machine (Debian's package systemd)"

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        for name in FILES:
            # It looks whether the program is there.
            text = (UNITS / name).read_text().replace(PROGRAM, sys.executable)
            (self.directory / name).write_text(text)

    def analyze(self, *arguments: str) -> tuple[int, str]:
        """Run systemd-analyze; its status, and what it says."""
        done = subprocess.run(
            ["systemd-analyze", "--no-pager", *arguments],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout.decode()

    def verify(self, name: str) -> None:
        """Verify a unit; what is wrong with others on this machine does not count."""
        status, said = self.analyze("verify", "--recursive-errors=no", f"./{name}")
        ours = [line for line in said.splitlines() if "pinghub" in line]
        self.assertEqual((status, ours), (0, []), said)

    def test_sound(self) -> None:
        """Every unit, with every setting, is one that systemd understands."""
        for name in ("pinghub.service", "pinghub@1.service", "pinghub.socket", "pinghub@1.socket"):
            self.verify(name)

    def test_hardened(self) -> None:
        """The exposure is 1.1 for one process, and 0.9 for many; 10 would be no protection."""
        for name, tenths in {"pinghub.service": 11, "pinghub@1.service": 9}.items():
            status, said = self.analyze(
                "security", "--offline=true", f"--threshold={tenths}", f"./{name}"
            )
            self.assertEqual(status, 0, said)


class TcpTests(SynchronousTestCase):
    """The server of ``pinghub.service`` is stopped and started while clients come."""

    SERVICE = ONE

    def listen(self) -> socket.socket:
        """Listen as systemd would."""
        backlog = int(setting("pinghub.socket", "Backlog"))
        try:
            return socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=backlog)
        except OSError:  # Where there is no IPv6, systemd takes IPv4 as well.
            return socket.create_server(("127.0.0.1", 0), backlog=backlog)

    def setUp(self) -> None:
        self.unit = Unit(self.SERVICE, self.listen())
        self.addCleanup(self.unit.kill)
        self.unit.start()

    def connect(self) -> Peer:
        """A connection."""
        peer = self.unit.connect()
        self.addCleanup(peer.close)
        return peer

    def subscribe(self) -> Peer:
        """A subscriber."""
        peer = self.connect()
        peer.upgrade("/a")
        return peer

    def read_close(self, subscriber: Peer) -> None:
        """Read up to the close frame, and go."""
        while (frame := subscriber.frame()).opcode != CLOSE:
            pass
        self.assertEqual(frame.code, CloseCode.GOING_AWAY)
        subscriber.close()

    def terminate(self) -> None:
        """Tell the server to stop."""
        self.unit.server.process.terminate()

    def start_again(self) -> None:
        """Start a server when the one before has ended, as it should."""
        self.assertEqual(self.unit.server.wait(PATIENCE), 0)
        self.unit.start()

    def test_restarts(self) -> None:
        """No connection is refused or reset, no POST lost; subscribers reconnect at once.

        Each publisher may be answered 503 once for each restart, if the server that stops has its
        connection already. It is closed then, and the next one waits for the next server.
        """
        with (
            Posts(self.unit.connect, keep=False) as on_new,
            Posts(self.unit.connect, keep=True) as on_kept,
        ):
            for _ in range(2):
                on_new.go_on()
                on_kept.go_on()
                subscriber = self.subscribe()
                self.terminate()
                self.read_close(subscriber)
                waiting = self.connect()
                waiting.send(upgrade_request("/a"))
                self.start_again()
                self.assertTrue(waiting.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 "))
                waiting.close()
            on_new.go_on()
            on_kept.go_on()
        for posts in (on_new, on_kept):
            self.assertLessEqual(set(posts.answers), {200, 503}, posts.answers)
            self.assertLessEqual(posts.answers[503], 2, posts.answers)

    def test_restarts_without_subscribers(self) -> None:
        """The same when nobody has to be told to go, and the server stops at once."""
        with Posts(self.unit.connect, keep=True) as posts:
            for _ in range(3):
                posts.go_on()
                self.terminate()
                self.start_again()
            posts.go_on()
        self.assertLessEqual(set(posts.answers), {200, 503}, posts.answers)
        self.assertLessEqual(posts.answers[503], 3, posts.answers)

    def test_waiting(self) -> None:
        """Who comes while no server runs waits for the next: more than Twisted's backlog of 50."""
        begun = time.monotonic()
        self.terminate()
        self.assertEqual(self.unit.server.wait(PATIENCE), 0)
        self.assertLess(time.monotonic() - begun, 2)
        peers = [self.connect() for _ in range(200)]
        for peer in peers:
            peer.send(http_request("POST", "/a", b"x"))
        self.unit.start()
        for peer in peers:
            self.assertEqual(peer.response()[0], 200)

    def test_a_crash(self) -> None:
        """A server that is killed leaves its socket to the next one."""
        self.unit.server.kill()
        peer = self.connect()
        peer.send(http_request("POST", "/a", b"x"))
        self.unit.start()
        self.assertEqual(peer.response()[0], 200)


class UnixTests(TcpTests):
    """The same with ``pinghub@.service``, on a unix socket."""

    SERVICE = MANY

    def listen(self) -> socket.socket:
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        self.path = directory / "1.sock"
        return listen_on_unix(self.path)

    def test_the_file_stays(self) -> None:
        """The server neither removes the socket of systemd nor opens it to others."""
        before = self.path.stat()
        self.terminate()
        self.start_again()
        after = self.path.stat()
        self.assertEqual(after.st_ino, before.st_ino)
        self.assertEqual(oct(after.st_mode & 0o777), "0o660")


def listen_on_unix(path: Path) -> socket.socket:
    """Listen as ``pinghub@.socket`` says, but for the path, and for the owner if we may not."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(int(setting("pinghub@.socket", "SocketMode"), 8))
    if os.geteuid() == 0:
        owner, group = (setting("pinghub@.socket", f"Socket{each}") for each in ("User", "Group"))
        shutil.chown(path, owner, group)
    listener.listen(int(setting("pinghub@.socket", "Backlog")))
    return listener
