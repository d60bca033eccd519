"""The sdist and the wheel, and what an installation of Pinghub does and leaves behind.

They are built and installed in a temporary directory, each installation in an environment of
its own that shares nothing with the one of the tests. With ``PINGHUB_DIST`` set, what is in
that directory is tested and nothing is built.
"""

from __future__ import annotations

import atexit
import fnmatch
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
from base64 import urlsafe_b64encode
from functools import cache
from hashlib import sha256
from http.client import HTTPConnection
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import SkipTest
from zipfile import ZipFile

from twisted.trial.unittest import SynchronousTestCase

from tests.running import Server

if TYPE_CHECKING:
    Mixin = SynchronousTestCase
else:
    Mixin = object

CHECKOUT = Path(__file__).resolve().parents[1]
BUILT = os.environ.get("PINGHUB_DIST")
ORIGIN = "https://ws.example.com"
PLUGIN = "twisted/plugins/pinghub_plugin.py"
NO_INDEX = "pip reaches no package index: connect to a network, or name an index in PIP_INDEX_URL"

# What running, testing and checking leave in a checkout, which .gitignore lists too.
MADE = (
    ".venv/*",
    ".conformance/*",
    ".coverage*",
    ".hypothesis/*",
    ".mypy_cache/*",
    ".ruff_cache/*",
    "_trial_temp*",
    "dist/*",
    "mutants/*",
    "*/node_modules/*",
    "*.cache",
    "*.pyc",
)

# Nothing that is meant for this process may help, or hinder, those that it starts.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PYTHON", "PINGHUB_", "COVERAGE_"))
}


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command that has to succeed prints."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
        cwd=cwd,
    )
    assert done.returncode == 0, f"status {done.returncode} from {command}: {done.stdout}"
    return done.stdout


def temporary() -> Path:
    """A new directory, which goes when the tests are over."""
    path = Path(tempfile.mkdtemp(prefix="pinghub-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@cache
def has_index() -> bool:
    """Whether pip is able to fetch a package, such as the one that builds ours."""
    fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "hatchling"]
    return subprocess.run([*fetch, "--dest", temporary()], capture_output=True).returncode == 0


@cache
def built() -> Path:
    """The directory of the sdist and the wheel, which is made of the sdist."""
    if BUILT:
        return Path(BUILT)
    path = temporary()
    run(sys.executable, "-m", "build", "--outdir", path, cwd=CHECKOUT)
    return path


def sdist() -> Path:
    """The sdist."""
    (path,) = built().glob("*.tar.gz")
    return path


def wheel() -> Path:
    """The wheel."""
    (path,) = built().glob("*.whl")
    return path


def unpacked() -> Path:
    """What is in the sdist, in a directory of its own."""
    path = temporary()
    run("tar", "-xzf", sdist(), "-C", path)
    (root,) = path.iterdir()
    return root


class Installation:
    """An environment with Pinghub in it, and an empty directory to work in.

    Args:
        what: the arguments of ``pip install``.
    """

    def __init__(self, *what: str | Path) -> None:
        self.home = temporary()
        venv.create(self.home, symlinks=True)
        self.cwd = temporary()
        self.pip("install", *what)

    def pip(self, *arguments: str | Path) -> str:
        """Run the pip of the tests for this environment, which is to have none of its own."""
        return run(sys.executable, "-m", "pip", "--python", self.home, *arguments, cwd=self.cwd)

    def command(self, name: str) -> str:
        """The path of a command in this environment."""
        return str(self.home / "bin" / name)

    def run(self, name: str, *arguments: str) -> str:
        """What a command in this environment prints."""
        return run(self.command(name), *arguments, cwd=self.cwd)

    def server(self, name: str, *arguments: str) -> Server:
        """A server started by a command in this environment."""
        return Server(
            command=[self.command(name), *arguments],
            addr=False,
            environment=ENVIRONMENT,
            cwd=str(self.cwd),
        )

    def damaged(self, package: str) -> list[str]:
        """The files of a package that are no longer what pip installed."""
        variables = {"base": str(self.home), "platbase": str(self.home)}
        site = sysconfig.get_path("purelib", "venv", variables)
        (installed,) = distributions(name=package, path=[site])
        files = [each for each in installed.files or () if each.hash and each.hash.mode == "sha256"]
        assert files, f"{package} has no record of its files"
        damaged = []
        for each in files:
            path = Path(str(each.locate()))
            digest = sha256(path.read_bytes()).digest() if path.exists() else b""
            if each.hash and each.hash.value != urlsafe_b64encode(digest).decode().rstrip("="):
                damaged.append(str(each))
        return damaged


class PackagingCase(Mixin):
    """A mixin for tests of what is built, or would be if pip reached an index."""

    def setUp(self) -> None:
        """Skip what cannot be built here."""
        super().setUp()
        if not has_index():
            raise SkipTest(NO_INDEX)


class WheelContentTests(PackagingCase, SynchronousTestCase):
    def names(self) -> list[str]:
        """The names of what is in the wheel, without its metadata."""
        with ZipFile(wheel()) as archive:
            names = archive.namelist()
        return [name for name in names if ".dist-info/" not in name]

    def test_complete(self) -> None:
        """Every file of the package and the plugin are in the wheel."""
        package = [path for path in (CHECKOUT / "pinghub").rglob("*") if path.is_file()]
        ours = [str(path.relative_to(CHECKOUT)) for path in package if path.suffix != ".pyc"]
        for name in ("pinghub/py.typed", "pinghub/console/page.html"):
            self.assertIn(name, ours)
        self.assertEqual(sorted(self.names()), sorted([*ours, PLUGIN]))

    def test_nothing_of_others(self) -> None:
        """The wheel has no tests, and nothing that would overwrite a file of Twisted's."""
        others = [name for name in self.names() if not name.startswith("pinghub/")]
        self.assertEqual(others, [PLUGIN])


class SdistContentTests(PackagingCase, SynchronousTestCase):
    def names(self) -> set[str]:
        """The names of what is in the sdist, below its only directory."""
        with tarfile.open(sdist()) as archive:
            return {name.partition("/")[2] for name in archive.getnames()}

    def test_source(self) -> None:
        """The sdist has what one needs to run, test and read Pinghub."""
        needed = {"Makefile", "README.md", "LICENSE", "tests/test_packaging.py", PLUGIN}
        self.assertEqual(needed - self.names(), set())

    def test_nothing_made(self) -> None:
        """The sdist has nothing that our commands made in the checkout."""
        made = [name for pattern in MADE for name in fnmatch.filter(self.names(), pattern)]
        self.assertEqual(made, [])

    def test_nothing_of_others(self) -> None:
        """The sdist has no file of a package of Twisted's but the plugin."""
        self.assertEqual(fnmatch.filter(self.names(), "twisted/*"), [PLUGIN])


class InstallationCase(PackagingCase):
    """A mixin: what holds for each form of installation, which one environment shows."""

    installations: dict[type, Installation] = {}

    def install(self) -> Installation:
        """Install Pinghub in this form."""
        raise NotImplementedError

    def setUp(self) -> None:
        """Install Pinghub, unless an earlier test of the class did."""
        super().setUp()
        kept = InstallationCase.installations
        if type(self) not in kept:
            kept[type(self)] = self.install()
        self.installation = kept[type(self)]

    def assert_serves(self, *command: str) -> None:
        """The command says where it listens, publishes, and ends with status 0 on SIGTERM."""
        with self.installation.server(*command) as server:
            connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
            self.addCleanup(connection.close)
            connection.request("POST", "/", b"hello")
            answer = connection.getresponse()
            self.assertEqual((answer.status, answer.read()), (200, b"OK\n"))
            self.assertEqual(server.stop(), 0, server.output)

    def test_pinghub(self) -> None:
        """The command pinghub serves."""
        self.assert_serves("pinghub", "-addr=127.0.0.1:0", f"-origin={ORIGIN}")

    def test_twistd(self) -> None:
        """The subcommand of twistd serves."""
        address = "tcp:0:interface=127.0.0.1"
        self.assert_serves("twistd", "-n", "pinghub", f"--addr={address}", f"--origin={ORIGIN}")

    def test_twist(self) -> None:
        """The subcommand of twist serves."""
        self.assert_serves("twist", "pinghub", "--addr=tcp:0:interface=127.0.0.1")

    def test_uninstall(self) -> None:
        """After pip uninstall, Twisted is whole and works, and knows of no Pinghub."""
        del InstallationCase.installations[type(self)]  # It is of no use to another test.
        self.assertIn("pinghub", self.installation.run("twistd", "--help"))
        self.installation.pip("uninstall", "--yes", "pinghub")
        self.assertNotIn("pinghub", self.installation.run("twistd", "--help"))
        self.assertEqual(self.installation.damaged("Twisted"), [])


class WheelTests(InstallationCase, SynchronousTestCase):
    def install(self) -> Installation:
        """Install the wheel."""
        return Installation(wheel())

    def test_documented_commands(self) -> None:
        """The two command lines of the documentation serve on port 8081, to the letter."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", 8081))
            except OSError:
                raise SkipTest("port 8081 is taken: end what listens there") from None
        self.assert_serves(*"pinghub -addr=:8081 -origin=https://ws.example.com".split())
        self.assert_serves(
            *"twistd -n pinghub --addr=tcp:8081 --origin=https://ws.example.com".split()
        )


class SdistTests(InstallationCase, SynchronousTestCase):
    def install(self) -> Installation:
        """Install the sdist."""
        return Installation(sdist())


class EditableTests(InstallationCase, SynchronousTestCase):
    def install(self) -> Installation:
        """Install what is in the sdist as one would a checkout to work on."""
        return Installation("--editable", unpacked())
