"""What docs/backplane.md and deploy/compose show, as far as it can be run here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from unittest import skipUnless

from pinghub.backplane.urls import parse
from tests.backplane.harness import HERE, MISSING, BackplaneTests, valkey
from tests.faults.harness import PATIENCE, eventually
from tests.proxies.harness import DEPLOY, free_port

PAGE = DEPLOY.parent / "docs" / "backplane.md"
COMPOSE = DEPLOY / "compose"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/bin")


def commands() -> dict[str, list[str]]:
    """What the services of compose.yaml run."""
    text = (COMPOSE / "compose.yaml").read_text()
    found = re.findall(r"^  (\w+):\n(?:    .*\n|      .*\n)*?    command: (\[.*\])$", text, re.M)
    return {name: json.loads(command) for name, command in found}


@skipUnless(HERE, MISSING)
class PageTests(BackplaneTests):
    """The commands of the page."""

    def test_redis_cli(self) -> None:
        """Publishing at Redis, and counting servers there."""
        lines = re.findall(r"^redis-cli (.*)$", PAGE.read_text(), re.MULTILINE)
        publish, count = sorted(lines)
        redis = self.redis()
        servers = self.sharing(redis.url)
        peers = [self.subscriber(each, "/news") for each in servers]
        shell = ["bash", "-c", f"redis-cli -p {redis.port} {publish}"]
        said = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
        self.assertEqual(said, "3\n")
        for peer in peers:
            self.assertEqual(peer.message(), b"Hello, world!")
        self.assertEqual(redis.cli(*count.split()).split(), ["pinghub:0:", "3"])

    def test_more_memory(self) -> None:
        """Redis accepts the lines of the page, one beside the other."""
        lines = re.findall(r"^(?:user|client-output-buffer-limit) .*$", PAGE.read_text(), re.M)
        self.assertEqual(len(lines), 2)
        redis = self.redis(*(line.split() for line in lines))
        limit = redis.cli("config", "get", "client-output-buffer-limit")
        self.assertIn(f"pubsub {256 << 20} {64 << 20} 60", limit)

    def test_urls(self) -> None:
        """Every URL on the page is accepted."""
        urls = re.findall(r"(?:rediss?|valkey|unix)(?:\+sentinel)?://[^\s`']+", PAGE.read_text())
        complete = [each for each in urls if not each.endswith("://")]
        self.assertGreater(len(complete), 8)
        for url in complete:
            parse(url)


@skipUnless(HERE and valkey() and NGINX, "needs redis-server, nginx and a Valkey")
class ComposeTests(BackplaneTests):
    """The services of compose.yaml, with nothing replaced but hosts, ports and directories."""

    def test_services(self) -> None:
        """A message that is posted to nginx reaches subscribers of all three servers."""
        services = commands()
        self.assertEqual(services.keys(), {"valkey", "pinghub"})
        program, *options = services["valkey"]
        self.assertEqual(program, "valkey-server")
        broker = self.redis(program=valkey(), start=False)
        broker.start(*options)
        program, *options = services["pinghub"]
        self.assertEqual(program, "pinghub")
        here = {"--addr=:8081": "--addr=127.0.0.1:0", "valkey:6379": f"127.0.0.1:{broker.port}"}
        line = "\0".join(options)
        for old, new in here.items():
            self.assertIn(old, line)
            line = line.replace(old, new)
        servers = [self.server(*line.split("\0"), addr=False) for _ in range(3)]
        self.nginx([each.port for each in servers])
        peers = [self.subscriber(each, "/news") for each in servers]
        url = f"http://127.0.0.1:{self.port}/news"
        for _ in servers:
            done = subprocess.run(
                ["curl", "-si", "-d", "Hello, world!", url],
                capture_output=True,
                text=True,
                check=True,
            )
            self.assertIn("Pinghub-Servers: 3", done.stdout)
        for peer in peers:
            self.assertEqual([peer.message() for _ in servers], [b"Hello, world!"] * 3)

    def nginx(self, ports: list[int]) -> None:
        """Start nginx, in front of these ports."""
        self.port = free_port()
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        servers = "".join(f"server 127.0.0.1:{port}; " for port in ports)
        text = (COMPOSE / "nginx.conf").read_text()
        for old, new in {
            "worker_processes auto;": f"worker_processes auto; pid {directory}/pid;",
            "server pinghub:8081;": servers,
            "listen 8080 ": f"listen 127.0.0.1:{self.port} ",
            "server_tokens off;": "server_tokens off; access_log off;",
        }.items():
            self.assertIn(old, text)
            text = text.replace(old, new)
        path = Path(directory, "nginx.conf")
        path.write_text(text)
        command = [
            str(NGINX),
            "-p",
            directory,
            "-c",
            str(path),
            "-e",
            "stderr",
            "-g",
            "daemon off;",
        ]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.terminate)
        eventually(lambda: self.listens(), PATIENCE, "nginx listens")

    def listens(self) -> bool:
        """Whether somebody listens on the port of nginx."""
        done = subprocess.run(["curl", "-s", f"http://127.0.0.1:{self.port}/"], capture_output=True)
        return done.returncode == 0

    def test_image(self) -> None:
        """What the Dockerfile copies is enough to build the package, and nothing else is read."""
        text = (COMPOSE / "Dockerfile").read_text()
        copied = re.findall(r"^COPY (.*) (/src/\S*)$", text, re.MULTILINE)
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        for sources, target in copied:
            for source in sources.split():
                path = DEPLOY.parent / source
                if path.is_dir():
                    ignored = shutil.ignore_patterns("__pycache__", "dropin.cache")
                    shutil.copytree(path, directory / target[len("/src/") :], ignore=ignored)
                else:
                    shutil.copy(path, directory)
        self.assertIn('pip install --no-cache-dir "/src[redis]"', text)
        build = [sys.executable, "-m", "build", "--wheel", "--outdir", "dist", "."]
        subprocess.run(build, cwd=directory, capture_output=True, check=True)
        (wheel,) = (directory / "dist").iterdir()
        names = zipfile.ZipFile(wheel).namelist()
        for name in ("twisted/plugins/pinghub_plugin.py", "pinghub/console/page.html"):
            self.assertIn(name, names)
