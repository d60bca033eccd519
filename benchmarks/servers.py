"""How each server that is measured is started, and what is known of it."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BUILT = Path(__file__).parent / "built"
"""Where the Makefile puts the C programs."""

RESULTS = Path(__file__).parent / "results"
"""Where the results go, unless they are those of a short run."""

NCHAN_MODULES = (
    Path("/usr/lib/nginx/modules/ngx_nchan_module.so"),
    Path("/usr/share/nginx/modules/ngx_nchan_module.so"),
)
START_SECONDS = 20.0

# As alike as can be: one worker, no message kept for those who come later, no access log.
NCHAN = """\
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
user {user};
pid {directory}/nginx.pid;
error_log {directory}/error.log crit;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_body_in_single_buffer on;
    client_body_buffer_size 64k;
    nchan_shared_memory_size 512m;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            nchan_pubsub;
            nchan_channel_id $uri;
            nchan_message_buffer_length 0;
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Server:
    """A server that listens.

    Attributes:
        name: what it is called in the results.
        port: where it listens, on 127.0.0.1.
        pid: its first process.
        path: what every channel's path begins with.
        takes_post: whether it can be published to by POST.
        has_channels: whether it knows more than one channel.
        part: the only command of the generator that it is measured with, if there is one.
    """

    name: str
    port: int
    pid: int
    path: str = "/bench-"
    takes_post: bool = True
    has_channels: bool = True
    part: str = ""

    @property
    def ports(self) -> str:
        """Where clients connect, by turns; for the generator."""
        return str(self.port)

    def pids(self) -> list[int]:
        """Its process, and those that it has started."""
        found = [self.pid]
        for pid in found:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            found += [int(each) for each in children.split()]
        return found

    def cpu_seconds(self) -> float:
        """The user and system time that it has used."""
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_kib(self) -> int:
        """The memory of its own: resident, without files and what is shared between processes."""
        kib = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    kib += int(line.split()[1])
        return kib


Start = Callable[[], contextlib.AbstractContextManager[Server]]


def descriptor_limit() -> int:
    """How many descriptors one process may have; raises the soft limit to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 1 << 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def cores() -> tuple[int, int]:
    """The core of the server, and that of the generator."""
    mine = sorted(os.sched_getaffinity(0))
    return mine[0], mine[-1]


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Whatever is started meanwhile runs on this core only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def unused_port() -> int:
    """A port of loopback on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), START_SECONDS).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"does not start: {process.args!r}")
        time.sleep(0.05)


@contextlib.contextmanager
def started(
    name: str, command: list[str], port: int, core: int | None = None, **known: Any
) -> Iterator[Server]:
    """A server, pinned to the first core or another one, until the end of the block."""
    with pinned(cores()[0] if core is None else core):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    try:
        _wait_until_it_listens(process, port)
        yield Server(name, port, process.pid, **known)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def pinghub(*options: str) -> contextlib.AbstractContextManager[Server]:
    """Pinghub, with more connections than a fifth of the descriptors would leave."""
    port = unused_port()
    command = [sys.executable, "-m", "pinghub", f"--addr=127.0.0.1:{port}"]
    command += [f"--max-connections={descriptor_limit() - 100}", *options]
    return started("Pinghub", command, port)


def plain_autobahn() -> contextlib.AbstractContextManager[Server]:
    """The plain Autobahn loop."""
    port = unused_port()
    command = [sys.executable, "-m", "benchmarks.plain_autobahn", str(port)]
    return started("Autobahn loop", command, port)


def embedded() -> contextlib.AbstractContextManager[Server]:
    """Pinghub in a Site of twisted.web; its websockets are those of ``pinghub``."""
    port = unused_port()
    command = [sys.executable, "-m", "benchmarks.embedded", str(port)]
    return started("embedded", command, port, path="/live/bench-", part="post")


def plain_websockets() -> contextlib.AbstractContextManager[Server]:
    """``websockets.broadcast``."""
    port = unused_port()
    command = [sys.executable, "-m", "benchmarks.plain_websockets", str(port)]
    return started("websockets", command, port, takes_post=False)


def floor() -> contextlib.AbstractContextManager[Server]:
    """The bare send loop."""
    port = unused_port()
    return started("C send loop", [str(BUILT / "floor"), str(port)], port, has_channels=False)


def _nginx() -> str | None:
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")


def _nchan_module() -> Path | None:
    return next((each for each in NCHAN_MODULES if each.exists()), None)


@contextlib.contextmanager
def nchan() -> Iterator[Server]:
    """Nginx with nchan, in a directory of its own."""
    port, files = unused_port(), descriptor_limit()
    with tempfile.TemporaryDirectory() as directory:
        settings = Path(directory, "nginx.conf")
        settings.write_text(
            NCHAN.format(
                module=_nchan_module(),
                files=files,
                connections=files - 100,
                user=Path(directory).owner(),
                directory=directory,
                port=port,
            )
        )
        command = [str(_nginx()), "-p", directory, "-c", str(settings), "-e", "stderr"]
        with started("nchan", command, port) as server:
            yield server


def given(text: str) -> tuple[str, Start]:
    """A server that runs already: ``NAME=URL,PID``, its URL the prefix of every channel's."""
    name, _, rest = text.partition("=")
    url, _, pid = rest.rpartition(",")
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost") or not parts.port or not pid.isdigit():
        raise SystemExit(f"not NAME=http://127.0.0.1:PORT/,PID: {text!r}")
    server = Server(name, parts.port, int(pid), (parts.path or "/") + "bench-")
    return name, lambda: contextlib.nullcontext(server)


def known() -> dict[str, Start]:
    """The servers that can be started here."""
    found: dict[str, Start] = {"Pinghub": pinghub}
    if _nginx() and _nchan_module():
        found["nchan"] = nchan
    with contextlib.suppress(PackageNotFoundError):
        version("websockets")
        found["websockets"] = plain_websockets
    found["Autobahn loop"] = plain_autobahn
    found["C send loop"] = floor
    found["embedded"] = embedded
    return found


def on_request() -> dict[str, Start]:
    """What Pinghub takes for options that most do without; measured if they are named."""
    return {
        "metrics": lambda: pinghub(f"--admin=127.0.0.1:{unused_port()}"),
        "access log": lambda: pinghub(f"--access-log={os.devnull}"),
    }


def versions() -> dict[str, str]:
    """The version of everything that takes part."""
    found = {}
    for package in ("pinghub", "Twisted", "autobahn", "websockets"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    nginx = _nginx()
    if nginx and _nchan_module():
        said = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=False).stderr
        found["nginx"] = said.rpartition("/")[2].strip()
        query = ["dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan"]
        with contextlib.suppress(FileNotFoundError):
            said = subprocess.run(query, capture_output=True, text=True, check=False).stdout
            found["nchan"] = said or "unknown"
    return found
