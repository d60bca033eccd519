"""The ``pinghub`` command, from its arguments to its end."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import runpy
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import twisted.internet
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogBeginner, Logger, LogLevel, LogPublisher, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pinghub import __version__, cli, tap
from pinghub.cli import LEVELS, CommandOptions, double_dashes, log_observer, main, run


class Reactor(MemoryReactorClock):
    """A reactor that notes what was there when it was run, and cannot use some ports."""

    taken = 4444

    def __init__(self) -> None:
        super().__init__()
        self.listening_when_run: list[int] | None = None

    def run(self) -> None:
        self.listening_when_run = [server[0] for server in self.tcpServers]
        super().run()

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port == self.taken:
            raise CannotListenError(interface, port, OSError(errno.EADDRINUSE, "Already in use"))
        return super().listenTCP(port, factory, backlog, interface)

    @property
    def listens(self) -> bool:
        """Whether anything listens."""
        return bool(self.tcpServers or self.unixServers or self.sslServers)

    def shut_down(self) -> list[Deferred[None]]:
        """Stop as a reactor does; what it waits for."""
        triggers = self.triggers["before"]["shutdown"]
        return [call(*arguments, **keywords) for call, arguments, keywords in triggers]


class CommandTests(SynchronousTestCase):
    """The command in this process: with a reactor, a log and an environment of its own."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.environment: dict[str, str] = {}
        self.output, self.errors = io.StringIO(), io.StringIO()
        self.handlers: dict[int, object] = {}
        self.patch(signal, "signal", self.handlers.__setitem__)
        self.begin_log()
        self.patch(tap, "raise_descriptor_limit", lambda: None)
        self.patch(tap, "tune_collector", lambda: None)

    def begin_log(self) -> None:
        """Have a log that nothing was written to yet, as processes have at their start."""
        publisher = LogPublisher()
        globalLogPublisher.addObserver(publisher)
        self.addCleanup(globalLogPublisher.removeObserver, publisher)
        self.system = SimpleNamespace(stdout=self.output, stderr=self.errors)
        warner = SimpleNamespace(showwarning=warnings.showwarning)
        beginner = LogBeginner(publisher, self.errors, self.system, warner)
        self.patch(cli, "globalLogBeginner", beginner)

    @contextlib.contextmanager
    def process(self) -> Iterator[None]:
        """What belongs to a process, as the command finds it."""
        with (
            mock.patch.object(twisted.internet, "reactor", self.reactor, create=True),
            mock.patch.object(os, "environ", self.environment),
            contextlib.redirect_stdout(self.output),
            contextlib.redirect_stderr(self.errors),
        ):
            yield

    def command(self, *arguments: str) -> object:
        """Run the command; its exit code, which is None if it was told to stop."""
        with self.process():
            try:
                main(arguments)
            except SystemExit as end:
                return end.code
        return None

    def started(self, *arguments: str) -> list[str]:
        """Run the command, which has to start; the lines it logged."""
        self.assertIsNone(self.command(*arguments), self.errors.getvalue())
        return self.errors.getvalue().splitlines()


class RunTests(CommandTests):
    """A server that starts."""

    def test_listens_before_it_runs(self) -> None:
        """The command listens, says where and to whom, and then runs the reactor."""
        lines = self.started("-addr=127.0.0.1:8081", "-origin=https://ws.example.com")
        self.assertEqual(self.reactor.listening_when_run, [8081])
        self.assertEqual(len(lines), 1)
        self.assertTrue(lines[0].endswith("allowed origins: https://ws.example.com"), lines)
        self.assertIn("[pinghub#info] Listening on", lines[0])

    def test_standard_output_is_left_alone(self) -> None:
        """What is printed is printed, and does not become a line of the log."""
        self.started()
        self.assertIs(self.system.stdout, self.output)
        self.assertIs(self.system.stderr, self.errors)

    def test_default_address(self) -> None:
        """Without any argument it listens on port 8081."""
        self.started()
        self.assertEqual(self.reactor.listening_when_run, [8081])

    def test_stops_with_the_reactor(self) -> None:
        """When the reactor stops, the server drains first; then the command is over."""
        self.started()
        self.assertIn(signal.SIGTERM, self.handlers)
        (stopped,) = self.reactor.shut_down()
        self.assertNoResult(stopped)
        self.reactor.pump([0.05] * 4)
        self.successResultOf(stopped)

    def test_dashes(self) -> None:
        """One dash or two, one argument or two: it is the same option."""
        for arguments in (
            ("-addr=:8082",),
            ("--addr=:8082",),
            ("-addr", ":8082"),
            ("--addr", ":8082"),
        ):
            self.setUp()
            self.started(*arguments)
            self.assertEqual(self.reactor.listening_when_run, [8082], arguments)

    def test_several_addresses(self) -> None:
        """It listens on each address that is given."""
        self.started("-addr=:8082", "--addr=127.0.0.1:8083")
        self.assertEqual(self.reactor.listening_when_run, [8082, 8083])

    def test_environment(self) -> None:
        """Options come from the environment of the process; the command line wins."""
        self.environment.update(PINGHUB_ADDR=":8082 :8083", PINGHUB_ORIGIN="https://a.b")
        lines = self.started()
        self.assertEqual(self.reactor.listening_when_run, [8082, 8083])
        self.assertTrue(lines[0].endswith("allowed origins: https://a.b"), lines)
        self.setUp()
        self.environment.update(PINGHUB_ADDR=":8082")
        self.started("-addr=:8084")
        self.assertEqual(self.reactor.listening_when_run, [8084])

    def test_arguments_of_the_process(self) -> None:
        """Without given arguments, those of the process count."""
        self.patch(sys, "argv", ["pinghub", "-addr=:8085"])
        with self.process():
            main()
        self.assertEqual(self.reactor.listening_when_run, [8085])

    def test_run(self) -> None:
        """Parsed options can be run on any reactor."""
        options = CommandOptions({})
        options.parseOptions(["--addr=:8086"])
        with contextlib.redirect_stderr(self.errors):
            run(options, self.reactor)
        self.assertEqual(self.reactor.listening_when_run, [8086])

    def test_reactor(self) -> None:
        """Our own reactor is used, unless there is one already or the system has no epoll."""
        chosen = "from pinghub.cli import the_reactor; print(type(the_reactor()).__module__)"
        for before, module in (
            ("", "pinghub.reactor"),
            ("import twisted.internet.pollreactor as other; other.install()", "pollreactor"),
            ("import select; del select.epoll", "pollreactor"),
        ):
            said = subprocess.run(
                [sys.executable, "-c", f"{before}\n{chosen}"], capture_output=True, check=True
            )
            self.assertTrue(said.stdout.decode().endswith(f"{module}\n"), before)

    def test_log_level(self) -> None:
        """The level can be chosen, on the command line and in the environment."""
        self.assertEqual(self.started("-log-level=warn"), [])
        self.setUp()
        self.environment["PINGHUB_LOG_LEVEL"] = "error"
        self.assertEqual(self.started(), [])
        self.setUp()
        self.environment["PINGHUB_LOG_LEVEL"] = "error"
        self.assertEqual(len(self.started("--log-level=debug")), 1)

    def test_log_file(self) -> None:
        """The log can go to a file, in either form."""
        for arguments, environment in (
            (("-log={}", "-log-format=json"), {}),
            ((), {"PINGHUB_LOG": "{}", "PINGHUB_LOG_FORMAT": "json"}),
        ):
            self.setUp()
            path = self.mktemp()
            for name, value in environment.items():
                self.environment[name] = value.replace("{}", path)
            self.assertEqual(self.started(*(each.replace("{}", path) for each in arguments)), [])
            (line,) = Path(path).read_text().splitlines()
            self.assertTrue(json.loads(line)["message"].startswith("Listening on "))


class RefusalTests(CommandTests):
    """A server that does not start."""

    def check_refused(self, *arguments: str) -> str:
        """The command ends with one line on stderr and status 2; nothing ever listened."""
        code = self.command(*arguments)
        self.assertEqual(code, 2, arguments)
        text = self.errors.getvalue()
        self.assertEqual((text.count("\n"), text[-1:]), (1, "\n"), (arguments, text))
        self.assertTrue(text.startswith("pinghub: "), text)
        self.assertEqual(self.output.getvalue(), "", arguments)
        self.assertFalse(self.reactor.listens, arguments)
        self.assertIsNone(self.reactor.listening_when_run, arguments)
        return text

    def test_wrong_arguments(self) -> None:
        """A wrong option ends the command with one line that names it, before anything listens."""
        cases = {
            ("--nonsense",): "nonsense",
            ("-nonsense=1",): "nonsense",
            ("stray",): "stray",
            ("-addr=:8081", "stray"): "stray",
            ("-addr",): "addr",
            ("-addr=8081",): "--addr=8081: give :PORT",
            ("-addr=:8081", "-addr=:99999"): "--addr=:99999: ",
            ("-addr=http://localhost:8081",): "--addr=http://localhost:8081: ",
            ("-addr=ssl:8443:privateKey=/nowhere:certKey=/nowhere",): "no such file",
            ("-origin=ws.example.com",): "--origin=ws.example.com: give scheme://host",
            ("-post-only=news",): "--post-only=news: ",
            ("-max-message=x",): "--max-message=x: give a number of bytes",
            ("-drain=-1",): "--drain=-1: give a time",
            ("-log-level=",): "--log-level=: give one of",
            ("-log-level=loud",): "loud: give one of debug, info, warn, error",
            ("-log-format=xml",): "--log-format=xml: give one of text, json",
            ("-log=/nowhere/file",): "--log=/nowhere/file: cannot write: no such file",
            ("-access-log=/nowhere/file",): "--access-log=/nowhere/file: cannot write: no such",
            ("-access-log=a\0b",): "cannot write: embedded null byte",
            ("-no-console=1",): "no-console",
        }
        for arguments, part in cases.items():
            self.setUp()
            self.assertIn(part, self.check_refused(*arguments))

    def test_wrong_environment(self) -> None:
        """The same for a wrong variable."""
        cases = {
            "PINGHUB_ADDR": "8081",
            "PINGHUB_ORIGIN": "ws.example.com",
            "PINGHUB_POST_ONLY": "news",
            "PINGHUB_DRAIN": "soon",
            "PINGHUB_NO_CONSOLE": "maybe",
            "PINGHUB_LOG_LEVEL": "loud",
            "PINGHUB_LOG_FORMAT": "xml",
        }
        for name, value in cases.items():
            self.setUp()
            self.environment[name] = value
            line = self.check_refused()
            self.assertIn(f"={value}: ", line)
            if name not in ("PINGHUB_ADDR", "PINGHUB_ORIGIN", "PINGHUB_POST_ONLY"):
                self.assertTrue(line.startswith(f"pinghub: {name}="), line)

    def test_an_address_that_is_taken(self) -> None:
        """An address that cannot be listened on ends the command with one line and status 1."""
        code = self.command("-addr=:8081", f"-addr=127.0.0.1:{Reactor.taken}")
        # The interpreter prints the text to stderr and exits with 1.
        self.assertEqual(
            code, f"pinghub: --addr=127.0.0.1:{Reactor.taken}: cannot listen: already in use"
        )
        self.assertEqual(self.errors.getvalue(), "")
        self.assertIsNone(self.reactor.listening_when_run)

    def test_version_and_help(self) -> None:
        """``-version`` and ``-help`` print to stdout, exit with 0, and start nothing."""
        for argument, text in {
            "-version": f"pinghub {__version__}\n",
            "--version": f"pinghub {__version__}\n",
            "-help": "Usage: pinghub [options]",
            "-h": "--log-level=",
            "--help": "debug, info, warn, error (default info)",
        }.items():
            self.setUp()
            self.assertEqual(self.command(argument), 0)
            self.assertIn(text, " ".join(self.output.getvalue().split()) + "\n")
            self.assertEqual(self.errors.getvalue(), "")
            self.assertFalse(self.reactor.listens)

    def test_module(self) -> None:
        """``python -m pinghub`` is the same command; importing the module runs nothing."""
        self.patch(sys, "argv", ["pinghub", "-version"])
        with self.process():
            runpy.run_module("pinghub.__main__", run_name="imported")
            self.assertEqual(self.output.getvalue(), "")
            end = self.assertRaises(SystemExit, runpy.run_module, "pinghub", run_name="__main__")
        self.assertEqual((end.code, self.output.getvalue()), (0, f"pinghub {__version__}\n"))


class DashTests(SynchronousTestCase):
    """Arguments in the style of Go."""

    def test_double_dashes(self) -> None:
        """Long options with one dash get a second one; everything else stays as it is."""
        cases = {
            "-addr=:8081": "--addr=:8081",
            "-addr": "--addr",
            "-max-message=1k": "--max-message=1k",
            "--addr=:8081": "--addr=:8081",
            "-ab": "--ab",
            "-a=1": "--a=1",
            "-h": "-h",
            "-": "-",
            "--": "--",
            "-1": "-1",
            "-1s": "-1s",
            "-=x": "-=x",
            "---x": "---x",
            ":8081": ":8081",
            "/run/-x": "/run/-x",
            "": "",
        }
        self.assertEqual(double_dashes(list(cases)), list(cases.values()))


class LogTests(SynchronousTestCase):
    """What the command writes to stderr."""

    def written(self, level: str) -> list[str]:
        """The lines that are written of all that could be, at a level."""
        stream = io.StringIO()
        observer = log_observer(stream, level)
        for namespace in ("pinghub", "twisted.web"):
            logger = Logger(namespace=namespace, observer=observer)
            for each in (*LEVELS, "critical"):
                logger.emit(LogLevel.levelWithName(each), "hello")
        return [line.split()[1][1:-1] for line in stream.getvalue().splitlines()]

    def test_levels(self) -> None:
        """Our own lines are written from the chosen level on, everybody's from warnings on."""
        others = ["twisted.web#warn", "twisted.web#error", "twisted.web#critical"]
        own = [f"pinghub#{each}" for each in (*LEVELS, "critical")]
        for number, level in enumerate(LEVELS):
            self.assertEqual(self.written(level), own[number:] + others, level)
