"""The plugin: what Twisted sees of Pinghub before it is asked to run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.application.reactors import getReactorTypes
from twisted.application.service import IServiceMaker, ServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from pinghub import tap

CHECKOUT = Path(__file__).resolve().parents[1]

WHAT_IT_LOADS = """
import sys
import twisted.plugins.pinghub_plugin
for name in sys.modules:
    if name.split(".")[0] in ("pinghub", "autobahn") or name == "twisted.internet.reactor":
        print(name)
"""


def found() -> list[ServiceMaker]:
    """The plugins that Twisted finds by the name of the subcommand."""
    makers = [each for each in getPlugins(IServiceMaker) if isinstance(each, ServiceMaker)]
    return [each for each in makers if each.tapname == "pinghub"]


class PluginTests(SynchronousTestCase):
    def test_found(self) -> None:
        """Twisted finds the plugin, once, and has a line to show for it."""
        self.assertEqual([each.description.count("\n") for each in found()], [0])

    def test_options(self) -> None:
        """The options of the plugin are those of pinghub.tap, and parse."""
        (plugin,) = found()
        self.assertIs(plugin.options, tap.Options)
        options = plugin.options()
        options.parseOptions(["--addr=tcp:8081", "--origin=https://ws.example.com"])
        self.assertEqual(options["addr"], ["tcp:8081"])
        self.assertEqual(options["origin"], ["https://ws.example.com"])

    def test_service(self) -> None:
        """The plugin makes its service with pinghub.tap."""
        (plugin,) = found()
        self.assertEqual(plugin.module, "pinghub.tap")
        self.assertIs(plugin.makeService, tap.makeService)

    def test_reactor(self) -> None:
        """The reactor is found by its name, once."""
        names = [each.shortName for each in getReactorTypes()]
        self.assertEqual(names.count("pinghub"), 1)
        command = "from twisted.application.reactors import installReactor as i; i('pinghub')"
        command += "; from twisted.internet import reactor; print(type(reactor).__module__)"
        said = subprocess.run(
            [sys.executable, "-c", command], cwd=CHECKOUT, capture_output=True, check=True
        )
        self.assertEqual(said.stdout, b"pinghub.reactor\n")

    def test_cheap(self) -> None:
        """All commands of twistd load the plugin, which loads nothing of Pinghub for them."""
        loaded = subprocess.run(
            [sys.executable, "-c", WHAT_IT_LOADS], cwd=CHECKOUT, capture_output=True, check=True
        )
        self.assertEqual(loaded.stdout.decode().split(), [])
