"""Install the Autobahn|Testsuite below ``.conformance/`` of the checkout.

The suite declares Python 2.7 only, and does run there as long as its dependencies are the
last releases that ran with it, in an order in which each finds what its build needs. This
module holds that order. It needs nothing but the standard library, so that it runs before
anything else is installed::

    python3 tests/conformance/install.py

Exit status: 0 done (or already done), 1 a step failed, 3 there is no Python 2.7.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / ".conformance"
BOOT = HOME / "boot"
ENVIRONMENT = HOME / "python27"
PYTHON = ENVIRONMENT / "bin" / "python"
WSTEST = ENVIRONMENT / "bin" / "wstest"
STAMP = HOME / "installed.txt"

NO_PYTHON27 = 3
HOW_TO_GET_IT = (
    "the Autobahn|Testsuite needs Python 2.7 and none was found: "
    "install one with 'pyenv install 2.7.18', or name one in PINGHUB_PYTHON27"
)

# The last line of virtualenv that still makes environments for Python 2.7.
VIRTUALENV = "virtualenv<20.22"
PIP_OPTIONS = ("--no-build-isolation", "--prefer-binary")
STEPS: tuple[tuple[str, ...], ...] = (
    ("setuptools==44.0.0",),
    ("incremental==16.10.1", "six==1.16.0"),
    ("cryptography==3.3.2", "pyOpenSSL==19.1.0"),
    (
        "Twisted==19.10.0",
        "zope.interface==4.6.0",
        "txaio==2.1.0",
        "autobahn[twisted,accelerate]==0.10.9",
        "jinja2==2.11.3",
        "markupsafe==1.1.1",
        "Werkzeug==1.0.1",
        "klein==17.10.0",
        "service_identity==18.1.0",
        "unittest2==1.1.0",
    ),
    ("--no-deps", "autobahntestsuite==25.10.1"),
)


class InstallError(Exception):
    """The suite cannot be installed; ``status`` is the exit status that says why."""

    def __init__(self, message: str, status: int = 1) -> None:
        """Take one line that says what to do, and the exit status."""
        super().__init__(message)
        self.status = status


def ensure() -> None:
    """Install the suite unless it is there.

    Raises:
        InstallError: without a Python 2.7, or when a step failed.
    """
    if is_installed():
        return
    python27 = find_python27()
    make_environment(python27)
    for number, packages in enumerate(STEPS, start=1):
        print(f"conformance: installing, step {number} of {len(STEPS)}", flush=True)
        run(PYTHON, "-m", "pip", "install", *PIP_OPTIONS, *packages)
    run(PYTHON, WSTEST, "--autobahnversion")
    STAMP.write_text(stamp())


def is_installed() -> bool:
    """Whether an earlier call went through with the steps of today."""
    complete = STAMP.exists() and PYTHON.exists() and WSTEST.exists()
    return complete and STAMP.read_text() == stamp()


def stamp() -> str:
    """What was installed, as the stamp file records it."""
    return "".join(" ".join(step) + "\n" for step in STEPS)


def find_python27() -> Path:
    """The first Python 2.7 that runs.

    Raises:
        InstallError: if there is none, or the one in ``PINGHUB_PYTHON27`` is none.
    """
    named = os.environ.get("PINGHUB_PYTHON27")
    if named:
        if not is_python27(Path(named)):
            message = f"PINGHUB_PYTHON27={named} is not a Python 2.7; give the path of one"
            raise InstallError(message, NO_PYTHON27)
        return Path(named)
    for candidate in candidates():
        if is_python27(candidate):
            return candidate
    raise InstallError(HOW_TO_GET_IT, NO_PYTHON27)


def candidates() -> Iterator[Path]:
    """Where a Python 2.7 may be: on the path, or among those of pyenv."""
    on_path = shutil.which("python2.7")
    if on_path:
        yield Path(on_path)
    roots = [os.environ.get("PYENV_ROOT"), str(Path.home() / ".pyenv")]
    for root in filter(None, roots):
        yield from sorted(Path(root).glob("versions/2.7*/bin/python2.7"), reverse=True)


def is_python27(python: Path) -> bool:
    """Whether it runs and says 2.7; pyenv's own ``python2.7`` on the path may do neither."""
    code = "import sys; sys.exit(sys.version_info[:2] != (2, 7))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, env=clean_environment())
    except OSError:
        return False
    return done.returncode == 0


def make_environment(python27: Path) -> None:
    """Make an empty environment for Python 2.7, in place of any earlier one."""
    print(f"conformance: making an environment for {python27}", flush=True)
    for old in (BOOT, ENVIRONMENT):
        shutil.rmtree(old, ignore_errors=True)
    STAMP.unlink(missing_ok=True)
    HOME.mkdir(exist_ok=True)
    run(sys.executable, "-m", "venv", BOOT)
    run(BOOT / "bin" / "python", "-m", "pip", "install", VIRTUALENV)
    run(BOOT / "bin" / "python", "-m", "virtualenv", "--python", python27, ENVIRONMENT)


def run(*command: str | Path) -> None:
    """Run a step and show its output only if it fails.

    Raises:
        InstallError: if it fails.
    """
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean_environment(),
    )
    if done.returncode:
        print(done.stdout.decode(errors="replace"), file=sys.stderr)
        words = " ".join(str(word) for word in command)
        raise InstallError(f"status {done.returncode} from: {words}")


def clean_environment() -> dict[str, str]:
    """The environment without what is meant for another Python, as PYTHONPATH is."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def main() -> int:
    """Install the suite and return the exit status."""
    try:
        ensure()
    except InstallError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return error.status
    print("conformance: the Autobahn|Testsuite is installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
