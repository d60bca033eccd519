"""Options, where they come from, and the service they make."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from unittest import mock

import twisted.internet
from twisted.application.service import IService
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pinghub import __version__, connections, tap
from pinghub.errors import ConfigurationError
from pinghub.limits import Bound, Limits, bounds, default_text
from pinghub.tap import Options, makeService
from pinghub.testing import (
    CLOSE,
    TEXT,
    MemoryReactor,
    MemoryServer,
    MemoryTransport,
    Peer,
    client_frame,
    http_request,
    upgrade_request,
)

BOUNDS = {name: bound for name, bound in bounds() if bound.option}

# Never a value, whatever the unit.
GARBAGE = ("", "x", "-1", "+1", "nan", "inf", "-inf", "1e3", "1,5", "0x10", " 1", "1 ", "1 s")


class Reactor(MemoryReactor, MemoryReactorClock):
    """Remembers who listens, and lets bytes flow to them."""


class Descriptors:
    """The ``resource`` module of a process that may have so many descriptors."""

    RLIMIT_NOFILE = 7

    def __init__(self, soft: int, hard: int) -> None:
        self.limits = (soft, hard)

    def getrlimit(self, what: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, what: int, limits: tuple[int, int]) -> None:
        self.limits = limits


def variable(option: str) -> str:
    """The environment variable of an option."""
    return "PINGHUB_" + option.upper().replace("-", "_")


def below(bound: Bound) -> list[str]:
    """Values that are numbers, but too small."""
    values = []
    if bound.least > 0 and not bound.off:
        values.append("0")
    if bound.least > 0 and bound.unit in ("seconds", "per second"):
        values.append(f"{bound.least / 2:g}")
    if bound.least > 1:
        values.append(f"{bound.least - 1:g}")
    return values


def other(name: str, factor: int = 2) -> tuple[str, Any]:
    """Another value than the default: as a user writes it, and as it is."""
    value = getattr(Limits(), name) or 5
    return str(value * factor), value * factor


def needed(name: str) -> tuple[str, ...]:
    """The options without which that one would have no effect."""
    return ("--backplane=redis://host",) if name.startswith("backplane") else ()


class OptionTests(SynchronousTestCase):
    """Parsing, with a command line and an environment of its own."""

    def parse(self, *arguments: str, **environment: str) -> Options:
        """Good options."""
        options = Options(environment)
        options.parseOptions(arguments)
        return options

    def refused(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """The one line that is printed about wrong options."""
        output, errors = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", output)
        self.patch(sys, "stderr", errors)
        options = Options(environment or {})
        case = f"{arguments} with {environment}"
        try:
            options.parseOptions(arguments)
        except SystemExit as end:
            self.assertEqual(end.code, 2, case)
        else:
            self.fail(f"{case} are taken for good ones")
        text = errors.getvalue()
        self.assertEqual((text.count("\n"), text[-1:], output.getvalue()), (1, "\n", ""), case)
        return text[:-1]

    def test_defaults(self) -> None:
        """Without options: port 8081, every origin, the console, and the default bounds."""
        options = self.parse()
        self.assertEqual(options["addr"], [":8081"])
        self.assertEqual(options["post-only"], [])
        self.assertFalse(options["no-console"])
        self.assertFalse(options["origins"].restricts)
        self.assertEqual(options["limits"], Limits())

    def test_every_bound_is_validated(self) -> None:
        """A wrong value is answered with one line: option, value, and what is accepted."""
        for bound in BOUNDS.values():
            for value in (*GARBAGE, *below(bound)):
                line = self.refused(f"--{bound.option}={value}")
                self.assertEqual(line, f"pinghub: --{bound.option}={value}: {bound.accepted}")

    def test_every_bound_is_validated_in_the_environment(self) -> None:
        """A wrong value in the environment is answered alike, with the variable's name."""
        for bound in BOUNDS.values():
            name = variable(bound.option or "")
            for value in ("x", "-1", *below(bound)):
                line = self.refused(environment={name: value})
                self.assertEqual(line, f"pinghub: {name}={value}: {bound.accepted}")

    def test_every_bound_can_be_set(self) -> None:
        """A value on the command line becomes that bound, and no other one changes."""
        for name, bound in BOUNDS.items():
            text, value = other(name)
            limits = self.parse(f"--{bound.option}={text}", *needed(name))["limits"]
            self.assertEqual(limits, Limits(**{name: value}))
            self.assertNotEqual(limits, Limits())

    def test_every_bound_has_a_variable(self) -> None:
        """Each can come from the environment as well, and the command line wins."""
        for name, bound in BOUNDS.items():
            (text, value), (winner, won) = other(name), other(name, 3)
            environment = {variable(bound.option or ""): text}
            limits = self.parse(*needed(name), **environment)["limits"]
            self.assertEqual(limits, Limits(**{name: value}))
            options = self.parse(f"--{bound.option}={winner}", *needed(name), **environment)
            self.assertEqual(options["limits"], Limits(**{name: won}))

    def test_the_command_line_wins_over_a_wrong_variable(self) -> None:
        """A variable that does not count is not validated."""
        options = self.parse("--drain=1", PINGHUB_DRAIN="soon")
        self.assertEqual(options["limits"].drain, 1)

    def test_units(self) -> None:
        """Sizes and times can be written with their units."""
        options = self.parse("--max-message=32k", "--drain=500ms", "--max-connections=auto")
        self.assertEqual(options["limits"], Limits(max_message=32 * 1024, drain=0.5))

    def test_contradictions(self) -> None:
        """Bounds that contradict each other are answered with one line as well."""
        line = self.refused("--max-message=2m", "--max-backlog=1m")
        self.assertTrue(line.startswith("pinghub: --max-backlog=1048576: "), line)
        self.assertIn("--max-message", line)

    def test_backplane(self) -> None:
        """Instances in order, from the command line or the environment; no password is shown."""
        urls = ("redis://:secret@a/1", "rediss://b")
        for options in (
            self.parse(*(f"--backplane={url}" for url in urls)),
            self.parse(PINGHUB_BACKPLANE=" ".join(urls)),
        ):
            self.assertEqual([each.text for each in options["urls"]], ["redis://a/1", "rediss://b"])
            self.assertEqual(options["on-gap"], "keep")
        line = self.refused("--backplane=redis://:secret@a/x")
        self.assertIn("pinghub: --backplane=redis://...: give a whole number", line)
        self.assertNotIn("secret", line)

    def test_on_gap(self) -> None:
        """What is done about a gap: one of two things."""
        backplane = "--backplane=redis://a"
        self.assertEqual(self.parse(backplane, "--on-gap=close")["on-gap"], "close")
        self.assertEqual(self.parse(backplane, PINGHUB_ON_GAP="close")["on-gap"], "close")
        line = self.refused(backplane, "--on-gap=nothing")
        self.assertEqual(line, "pinghub: --on-gap=nothing: give keep or close")

    def test_without_a_backplane(self) -> None:
        """What would be without effect is refused."""
        for option, value in {
            "on-gap": "keep",
            "backplane-queue": "1m",
            "backplane-timeout": "5s",
            "backplane-wait": "5s",
        }.items():
            expected = f"pinghub: --{option}={value}: give a --backplane as well"
            self.assertEqual(self.refused(f"--{option}={value}"), expected)
            self.assertEqual(self.refused(environment={variable(option): value}), expected)

    def test_repeatable(self) -> None:
        """Addresses, origins and patterns can be given several times, in order."""
        options = self.parse(
            "--addr=:1", "--addr", "/run/x", "--origin=https://a.b", "--origin=https://*.c",
            "--post-only=/a", "--post-only=/b/*",
        )  # fmt: skip
        self.assertEqual(options["addr"], [":1", "/run/x"])
        self.assertEqual(str(options["origins"]), "https://a.b, https://*.c")
        self.assertEqual(options["post-only"], ["/a", "/b/*"])

    def test_repeatable_in_the_environment(self) -> None:
        """There, several values are separated by white space; the command line replaces all."""
        environment = {
            "PINGHUB_ADDR": ":1  :2\n:3 ",
            "PINGHUB_ORIGIN": "https://a.b https://c.d",
            "PINGHUB_POST_ONLY": "/a /b",
        }
        options = self.parse(**environment)
        self.assertEqual(options["addr"], [":1", ":2", ":3"])
        self.assertEqual(str(options["origins"]), "https://a.b, https://c.d")
        self.assertEqual(options["post-only"], ["/a", "/b"])
        options = self.parse("--addr=:4", "--origin=https://e.f", "--post-only=/c", **environment)
        self.assertEqual(options["addr"], [":4"])
        self.assertEqual(str(options["origins"]), "https://e.f")
        self.assertEqual(options["post-only"], ["/c"])

    def test_empty_variables(self) -> None:
        """An empty variable is an absent one."""
        environment = {variable(bound.option or ""): "" for bound in BOUNDS.values()}
        self.assertEqual(self.parse(**environment)["limits"], Limits())
        options = self.parse(PINGHUB_ADDR="", PINGHUB_ORIGIN=" ", PINGHUB_POST_ONLY="\n")
        self.assertEqual(options["addr"], [":8081"])
        self.assertFalse(options["origins"].restricts)
        self.assertEqual(options["post-only"], [])

    def test_no_console(self) -> None:
        """The flag can come from the environment as yes or no, in several words."""
        self.assertTrue(self.parse("--no-console")["no-console"])
        for value in ("1", "true", "YES", "On"):
            self.assertTrue(self.parse(PINGHUB_NO_CONSOLE=value)["no-console"], value)
        for value in ("", "0", "False", "no", "OFF"):
            self.assertFalse(self.parse(PINGHUB_NO_CONSOLE=value)["no-console"], value)
            self.assertTrue(self.parse("--no-console", PINGHUB_NO_CONSOLE=value)["no-console"])
        for value in ("maybe", "2", " "):
            line = self.refused(environment={"PINGHUB_NO_CONSOLE": value})
            self.assertEqual(line, f"pinghub: PINGHUB_NO_CONSOLE={value}: give 1 or 0")

    def test_origins_are_validated(self) -> None:
        """An origin without a scheme, or that is none, is answered with one line."""
        for value in ("ws.example.com", "*", "null", "https://a.b/c"):
            for line in (
                self.refused("--origin=https://good.example", f"--origin={value}"),
                self.refused(environment={"PINGHUB_ORIGIN": f"https://good.example {value}"}),
            ):
                self.assertTrue(line.startswith(f"pinghub: --origin={value}: give scheme"), line)

    def test_proxies(self) -> None:
        """Proxies can be given several times; what is no network is answered with one line."""
        proxies = self.parse("--trust-proxy=10.0.0.0/8", "--trust-proxy=unix")["proxies"]
        self.assertTrue(proxies.trusts("10.1.2.3") and proxies.trusts(None))
        self.assertFalse(self.parse()["proxies"])
        for line in (
            self.refused("--trust-proxy=example.com"),
            self.refused(environment={"PINGHUB_TRUST_PROXY": "10.0.0.1 example.com"}),
        ):
            self.assertTrue(line.startswith("pinghub: --trust-proxy=example.com: give a network"))

    def test_patterns_are_validated(self) -> None:
        """A pattern that no channel can match is answered with one line."""
        for value in ("news", "", "news/*"):
            line = self.refused(f"--post-only={value}")
            self.assertEqual(line, f"pinghub: --post-only={value}: begin the pattern with a slash")
        for value in ("/news/*", "*", "*/news", "?news", "[/]news"):
            self.assertEqual(self.parse(f"--post-only={value}")["post-only"], [value])

    def test_private_addresses(self) -> None:
        """``--admin`` has to name an address: one that means every interface is refused."""
        for value in (
            ":9090",
            ":http",
            "tcp:9090",
            "tcp6:9090",
            "haproxy:tcp:9090",
            "ssl:9090",
            "tcp:1:interface=",
        ):
            line = self.refused(f"--admin={value}")
            self.assertTrue(line.startswith(f"pinghub: --admin={value}: name a private"), line)
        self.assertEqual(self.parse()["admin"], [])
        for value in ("127.0.0.1:9090", "/run/a", "tcp:9090:interface=10.0.0.1", "0.0.0.0:9090"):
            self.assertEqual(self.parse(f"--admin={value}")["admin"], [value])

    def test_usage(self) -> None:
        """Unknown options, missing values and stray arguments are answered with one line."""
        cases = {
            ("--nonsense",): "nonsense",
            ("--nonsense=1",): "nonsense",
            ("-x",): "x",
            ("--addr",): "addr",
            ("--no-console=1",): "no-console",
            ("stray",): "stray",
            ("two\nlines",): "two",
            ("--drain=1", "stray", "more"): "stray",
            ("--", "stray"): "stray",
        }
        for arguments, name in cases.items():
            line = self.refused(*arguments)
            self.assertIn(name, line)
            self.assertTrue(line.startswith("pinghub: ") and line.endswith("; see --help"), line)

    def test_version(self) -> None:
        """``--version`` shows the version and exits well."""
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        end = self.assertRaises(SystemExit, Options({}).parseOptions, ["--version"])
        self.assertEqual((end.code, output.getvalue()), (0, f"pinghub {__version__}\n"))

    def test_help(self) -> None:
        """``--help`` shows units, defaults and how to write them, and exits well."""
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        end = self.assertRaises(SystemExit, Options({}).parseOptions, ["--help"])
        self.assertEqual(end.code, 0)
        text = " ".join(output.getvalue().split())
        for name, bound in BOUNDS.items():
            expected = f"{bound.what}; at the bound: {bound.at} (default {default_text(name)})"
            self.assertIn(f"--{bound.option}= {expected}", text)
        for option, default in {
            "addr": ":8081",
            "origin": "any origin",
            "post-only": "none",
            "admin": "none",
            "trust-proxy": "none",
        }.items():
            part = text.partition(f"--{option}= ")[2].partition(" --")[0]
            self.assertIn(f"(repeatable; {default})", part)
        for option in ("--no-console", "--help", "--version"):
            self.assertIn(option, text)
        for words in (
            "Sizes are bytes, or 64k",
            "times are seconds, or 500ms",
            "PINGHUB_MAX_MESSAGE",
        ):
            self.assertIn(words, text)

    def test_environment_of_the_process(self) -> None:
        """Without a given environment, that of the process is used."""
        self.patch(os, "environ", {"PINGHUB_DRAIN": "7"})
        options = Options()
        options.parseOptions([])
        self.assertEqual(options["limits"].drain, 7)


class ServiceTests(SynchronousTestCase):
    """The service, on a reactor in memory."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.descriptors = Descriptors(1000, 1000)
        self.patch(connections, "resource", self.descriptors)
        self.tuned = 0
        self.patch(tap, "tune_collector", self.tune)

    def tune(self) -> None:
        """What is called instead of tuning the collector of the process that runs the tests."""
        self.tuned += 1

    def test_the_collector_is_tuned(self) -> None:
        """A process that serves has a collector with short pauses."""
        self.make()
        self.assertEqual(self.tuned, 1)

    def make(self, *arguments: str) -> Any:
        """The service of some options."""
        options = Options({})
        options.parseOptions(arguments)
        return makeService(options, self.reactor)

    def connect(self, *arguments: str) -> Peer:
        """A peer that is connected to the server of some options."""
        self.make(*arguments).privilegedStartService()
        factory: Any = self.reactor.tcpServers[-1][1]
        transport = MemoryTransport(self.reactor)
        transport.protocol = factory.buildProtocol(transport.getPeer())
        transport.protocol.makeConnection(transport)
        server: Any = SimpleNamespace(reactor=self.reactor)
        return Peer(server, transport)

    def status(self, request: bytes, *arguments: str) -> int:
        """The status with which the server of some options answers a request."""
        peer = self.connect(*arguments)
        peer.send(request)
        return peer.response().status

    def test_service(self) -> None:
        """What is made is a service, and making it listens nowhere."""
        self.assertTrue(verifyObject(IService, self.make()))
        self.assertEqual(self.reactor.tcpServers, [])

    def test_addresses(self) -> None:
        """The service listens on each address, with the backlog of the bounds."""
        self.make(
            "--addr=127.0.0.1:8081", "--addr=tcp:8082", "--addr=unix:/nowhere/x"
        ).startService()
        where = [(port, *rest) for port, _, *rest in self.reactor.tcpServers]
        self.assertEqual(where, [(8081, 1024, "127.0.0.1"), (8082, 1024, "")])
        self.assertEqual([each[0] for each in self.reactor.unixServers], ["/nowhere/x"])

    def test_backplane(self) -> None:
        """With ``--backplane`` the service publishes there, and not in this process."""
        peer = self.connect("--backplane=redis://127.0.0.1:1")
        peer.send(http_request("POST", "/a", b"x"))
        answer = peer.response()
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"))

    def test_a_backplane_that_cannot_be_used(self) -> None:
        """A file that is not there, or a package: one line, and status 2."""
        for arguments, missing, words in (
            (["--backplane=rediss://a?ssl_ca_certs=/none"], None, "ssl_ca_certs=/none: no such"),
            (["--backplane=redis://a"], "txredisapi", "install pinghub[redis]"),
        ):
            errors = io.StringIO()
            self.patch(sys, "stderr", errors)
            if missing:
                self.patch_modules(missing)
            end = self.assertRaises(SystemExit, self.make, *arguments)
            self.assertEqual(end.code, 2)
            self.assertIn(words, errors.getvalue())
            self.assertEqual(errors.getvalue().count("\n"), 1)

    def patch_modules(self, name: str) -> None:
        """Until the test is over, that module cannot be imported."""
        ours = [each for each in sys.modules if each.startswith("pinghub.backplane.")]
        changes: dict[str, Any] = {name: None}
        patch = mock.patch.dict(sys.modules, changes)
        patch.start()
        self.addCleanup(patch.stop)
        for each in ours:
            if each != "pinghub.backplane.urls":
                del sys.modules[each]

    def test_descriptors(self) -> None:
        """The descriptor limit is raised first, so that more connections are allowed."""
        self.descriptors.limits = (100, 1000)
        self.make().startService()
        site: Any = self.reactor.tcpServers[0][1]
        self.assertEqual(site.manager.connections.limit, 800)

    def test_max_connections(self) -> None:
        """A number of connections that is given is taken as it is."""
        self.make("--max-connections=5").startService()
        site: Any = self.reactor.tcpServers[0][1]
        self.assertEqual(site.manager.connections.limit, 5)

    def test_bounds(self) -> None:
        """The bounds reach the server: a message over ``--max-message`` gets 413."""
        request = http_request("POST", "/a", b"x" * 11)
        self.assertEqual(self.status(request), 200)
        self.assertEqual(self.status(request, "--max-message=10"), 413)

    def test_origins(self) -> None:
        """The origins reach the server: a POST from another page gets 403."""
        request = http_request("POST", "/a", b"x", {"Origin": "https://evil.com"})
        self.assertEqual(self.status(request), 200)
        self.assertEqual(self.status(request, "--origin=https://good.com"), 403)
        self.assertEqual(self.status(request, "--origin=https://evil.com"), 200)

    def test_admin(self) -> None:
        """``--admin`` listens, and answers there; without it nothing does."""
        self.make().startService()
        self.assertEqual([each[0] for each in self.reactor.tcpServers], [8081])
        self.reactor.tcpServers.clear()
        self.make("--admin=127.0.0.1:9090").startService()
        port, site, _, interface = self.reactor.tcpServers[1]
        self.assertEqual((port, interface), (9090, "127.0.0.1"))
        server = MemoryServer()
        server.site = site
        self.assertEqual(server.request("GET", "/readyz").status, 200)

    def test_addresses_of_clients(self) -> None:
        """The bound for each address and the proxies reach the server, not its private side."""
        service = self.make(
            "--admin=127.0.0.1:9090", "--max-connections-per-address=1", "--trust-proxy=192.0.2.1"
        )
        service.startService()
        server = MemoryServer()
        server.site = self.reactor.tcpServers[0][1]
        for host, statuses in (("192.0.2.1", [200, 200]), ("192.0.2.2", [200, 429])):
            peers = [server.connect(host=host) for _ in range(2)]
            for peer in peers:
                peer.send(http_request("GET", "/healthz"))
            self.assertEqual([peer.response().status for peer in peers], statuses)
        server.site = self.reactor.tcpServers[1][1]
        peers = [server.connect(host="192.0.2.2") for _ in range(5)]
        self.assertFalse(any(peer.transport.ended or peer.transport.reset for peer in peers))

    def test_console(self) -> None:
        """``--no-console`` reaches the server: GET gets 404."""
        request = http_request("GET", "/a")
        self.assertEqual(self.status(request), 200)
        self.assertEqual(self.status(request, "--no-console"), 404)

    def test_post_only(self) -> None:
        """The patterns reach the server: text on such a channel is closed with 1008."""
        for path, opcode in (("/news/a", CLOSE), ("/other", TEXT)):
            peer = self.connect("--post-only=/news/*")
            peer.send(upgrade_request(path))
            self.assertEqual(peer.response().status, 101)
            peer.send(client_frame(TEXT, b"hello"))
            (frame,) = peer.frames()
            self.assertEqual(frame.opcode, opcode, path)
            self.assertEqual(frame.code == 1008, opcode == CLOSE, path)

    def test_signals(self) -> None:
        """The service of a process takes over its signals once the reactor runs."""
        handlers: dict[int, object] = {}
        self.patch(signal, "signal", handlers.__setitem__)
        self.make().startService()
        self.assertEqual(set(handlers), set())
        self.reactor.run()
        self.assertEqual(set(handlers), {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

    def test_wrong_addresses(self) -> None:
        """An address that cannot be used ends the process with one line, and nothing listens."""
        for addr in (
            "8081",
            ":99999",
            ":nonsense",
            "nonsense:1:2",
            "tcp:x:y",
            "tcp:8081:nonsense=1",
            "ssl:8443:privateKey=/nowhere/k.pem:certKey=/nowhere/c.pem",
        ):
            errors = io.StringIO()
            self.patch(sys, "stderr", errors)
            end = self.assertRaises(SystemExit, self.make, "--addr=:8081", f"--addr={addr}")
            self.assertEqual(end.code, 2, addr)
            text = errors.getvalue()
            self.assertTrue(text.startswith(f"pinghub: --addr={addr}: "), text)
            self.assertEqual((text.count("\n"), text[-1]), (1, "\n"), text)
            self.assertEqual(self.reactor.tcpServers, [])

    def test_global_reactor(self) -> None:
        """Without a reactor, it is the one that twistd runs."""
        options = Options({})
        options.parseOptions([])
        with mock.patch.object(twisted.internet, "reactor", self.reactor, create=True):
            service: Any = makeService(options)
        service.startService()
        self.assertEqual(len(self.reactor.tcpServers), 1)


class ParameterTests(SynchronousTestCase):
    """The parts of the options that others build on."""

    def test_program_name(self) -> None:
        """Errors are told under the name of the program."""
        options = Options({})
        options.program = "twistd"
        errors = io.StringIO()
        self.patch(sys, "stderr", errors)
        self.assertRaises(SystemExit, options.parseOptions, ["--drain=x"])
        self.assertTrue(errors.getvalue().startswith("twistd: --drain=x: "))

    def test_every_option_is_offered(self) -> None:
        """There is an option for every bound that has one, and a few more."""
        options = Options({})
        names = {bound.option for bound in BOUNDS.values()}
        names |= {"addr", "origin", "post-only", "admin", "trust-proxy", "no-console", "access-log"}
        names |= {"backplane", "on-gap"}
        names |= {"h", "help", "version"}
        offered = {each.rstrip("=") for each in options.longOpt} | set(options.shortOpt)
        self.assertEqual(offered, names)

    def test_errors_are_errors_of_the_package(self) -> None:
        """Whoever calls ``postOptions`` alone gets a ConfigurationError."""
        options = Options({"PINGHUB_DRAIN": "x"})
        self.assertRaises(ConfigurationError, options.postOptions)

    def test_default_address(self) -> None:
        """The default address is the one that is documented."""
        self.assertEqual(tap.DEFAULT_ADDR, ":8081")
