"""Networks of the tests' own, in network namespaces, that can fail.

Nothing outside of the namespaces is touched, and they are removed when a test is over. That
takes root and the ``ip`` command (Debian's package iproute2); without them the tests are skipped.

The bad link of ``lossy_network`` is made in user space, of two tun devices, because netem is not
in every kernel.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.faults.places import ROOT

SERVER = "198.18.0.1"
CLIENT = "198.18.0.2"
"""Addresses that exist in the namespaces only (RFC 2544 reserves them for tests)."""

# From linux/if_tun.h: packets, without anything in front of them.
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET = 65_536

_numbers = count()


def ip(*arguments: str) -> None:
    """Run ``ip``.

    Raises:
        OSError: it failed.
    """
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Network:
    """Two namespaces with a link between them; the server is in one, the clients in the other.

    Attributes:
        server: the namespace of the server.
        client: the namespace of the clients.
        link: the name of each end of the link.
    """

    def __init__(self) -> None:
        name = f"pinghub-{os.getpid()}-{next(_numbers)}"
        self.server = f"{name}-server"
        self.client = f"{name}-client"
        self.link = "link0"
        # In the namespace in which a device is made its name has to be free.
        unique = f"ph{os.getpid()}n{next(_numbers)}"
        self.devices = (f"{unique}s", f"{unique}c")

    def open(self) -> None:
        """Make the namespaces.

        Raises:
            SkipTest: this machine does not let us.
        """
        if shutil.which("ip") is None:
            raise SkipTest("no ip command: install iproute2 (apt-get install iproute2)")
        try:
            for namespace in (self.server, self.client):
                ip("netns", "add", namespace)
                ip("-n", namespace, "link", "set", "lo", "up")
        except OSError as error:
            self.close()
            raise SkipTest(f"no network namespaces, run as root: {error}") from None

    def attach(self) -> None:
        """Move the two devices into their namespaces, with their addresses."""
        for device, namespace, address in (
            (self.devices[0], self.server, SERVER),
            (self.devices[1], self.client, CLIENT),
        ):
            ip("link", "set", device, "netns", namespace)
            ip("-n", namespace, "link", "set", device, "name", self.link)
            ip("-n", namespace, "address", "add", f"{address}/30", "dev", self.link)
            ip("-n", namespace, "link", "set", self.link, "txqlen", "10000", "up")

    def close(self) -> None:
        """Remove the namespaces, and with them whatever is in them."""
        for namespace in (self.server, self.client):
            with suppress(OSError):
                ip("netns", "delete", namespace)


def inside(namespace: str) -> list[str]:
    """What to put in front of a command that is to run in a namespace."""
    return ["ip", "netns", "exec", namespace]


def plain_network() -> Network:
    """A network with a good link.

    Raises:
        SkipTest: this machine does not let us make one.
    """
    network = Network()
    network.open()
    try:
        one, other = network.devices
        ip("link", "add", one, "type", "veth", "peer", "name", other)
        network.attach()
    except BaseException:
        network.close()
        raise
    return network


@dataclass(frozen=True)
class Quality:
    """What a link does to packets, in either direction.

    Attributes:
        delay: how long each takes, in seconds.
        loss: the share of them that is lost.
        early: the share of them that takes half the time only, and so gets ahead of others.
        seed: of the choices.
    """

    delay: float = 0.05
    loss: float = 0.05
    early: float = 0.1
    seed: int = 1


@dataclass
class Traffic:
    """What became of the packets.

    Attributes:
        packets: how many there were.
        lost: how many were lost.
        ahead: how many got ahead of others, as far as there were any on their way.
    """

    packets: int = 0
    lost: int = 0
    ahead: int = 0


class LossyNetwork(Network):
    """A network whose link is bad; a process of its own moves the packets.

    Args:
        quality: of the link.
    """

    def __init__(self, quality: Quality) -> None:
        super().__init__()
        self._quality = quality
        self._process: subprocess.Popen[str] | None = None

    def open(self) -> None:
        """Make the namespaces and the link.

        Raises:
            SkipTest: this machine does not let us.
        """
        super().open()
        try:
            if not os.path.exists("/dev/net/tun"):
                raise SkipTest("no /dev/net/tun: load the kernel's module tun")
            plan = json.dumps([self.devices, asdict(self._quality)])
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.networks", plan],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._process.stdout is not None
            if self._process.stdout.readline() != "ready\n":
                raise AssertionError("the link could not be made")
            self.attach()
        except BaseException:
            self.close()
            raise

    def traffic(self) -> Traffic:
        """Take the link away; what it did to the packets."""
        assert self._process is not None
        output, _ = self._process.communicate()
        return Traffic(**json.loads(output))

    def close(self) -> None:
        """Remove it all."""
        if self._process is not None and self._process.returncode is None:
            self._process.communicate()
        super().close()


class Link:
    """Moves packets between two tun devices, badly.

    Args:
        ends: the descriptors of the devices.
        quality: how badly.
    """

    def __init__(self, ends: Sequence[int], quality: Quality) -> None:
        self.traffic = Traffic()
        self._other = {ends[0]: ends[1], ends[1]: ends[0]}
        self._quality = quality
        self._random = random.Random(quality.seed)
        self._order = count()
        # Packets on their way: when they arrive, which one it is, where, and what.
        self._under_way: list[tuple[float, int, int, bytes]] = []

    def run(self, stop: int) -> None:
        """Go on until there is something to read from a descriptor, or it has ended."""
        poller = select.poll()
        for descriptor in (stop, *self._other):
            poller.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in poller.poll(self._milliseconds()):
                if descriptor == stop:
                    return
                self._take(descriptor)
            self._hand_over()

    def _milliseconds(self) -> float | None:
        if not self._under_way:
            return None
        return max(0.0, self._under_way[0][0] - time.monotonic()) * 1000

    def _take(self, end: int) -> None:
        quality = self._quality
        now = time.monotonic()
        with suppress(BlockingIOError):
            while True:
                packet = os.read(end, PACKET)
                self.traffic.packets += 1
                if self._random.random() < quality.loss:
                    self.traffic.lost += 1
                    continue
                early = self._random.random() < quality.early
                self.traffic.ahead += early and bool(self._under_way)
                due = now + (quality.delay / 2 if early else quality.delay)
                entry = (due, next(self._order), self._other[end], packet)
                heapq.heappush(self._under_way, entry)

    def _hand_over(self) -> None:
        now = time.monotonic()
        while self._under_way and self._under_way[0][0] <= now:
            _, _, end, packet = heapq.heappop(self._under_way)
            # A device that is down, or full, loses packets as well.
            with suppress(OSError):
                os.write(end, packet)


def tun_device(name: str) -> int:
    """Make a tun device; it lasts as long as this descriptor is open."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


def main() -> None:
    """Be the link that the command line describes, until the standard input ends."""
    names: list[str]
    quality: dict[str, Any]
    names, quality = json.loads(sys.argv[1])
    link = Link([tun_device(name) for name in names], Quality(**quality))
    print("ready", flush=True)
    link.run(sys.stdin.fileno())
    print(json.dumps(asdict(link.traffic)))


if __name__ == "__main__":
    main()
