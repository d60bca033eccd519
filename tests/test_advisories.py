"""Nothing that Pinghub runs on has a published vulnerability, as far as ``advisories.toml`` knows.

``make audit`` asks a service on the internet, which knows more; this needs no network.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from twisted.trial.unittest import SynchronousTestCase

CHECKOUT = Path(__file__).parent.parent
TABLE: dict[str, Any] = tomllib.loads(
    Path(__file__).with_name("advisories.toml").read_text(encoding="utf-8")
)
PACKAGES: dict[str, Any] = TABLE["packages"]
EXTRAS = ("redis",)


def closure(name: str) -> dict[str, str]:
    """The installed versions of all that a distribution needs to run, with its extras."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(name), extra) for extra in ("", *EXTRAS)]
    while waiting:
        each = each_name, extra = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        found = distribution(each_name)
        versions[each_name] = found.version
        for requirement in map(Requirement, found.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, wanted) for wanted in ("", *requirement.extras)]
    del versions[canonicalize_name(name)]
    return versions


def lower_bounds(requirements: list[str]) -> dict[str, str]:
    """The oldest version that each requirement allows; it has to name one with ``>=``."""
    bounds: dict[str, str] = {}
    for requirement in map(Requirement, requirements):
        (bounds[canonicalize_name(requirement.name)],) = (
            each.version for each in requirement.specifier if each.operator == ">="
        )
    return bounds


def unlisted(versions: Mapping[str, str]) -> list[str]:
    """The packages that nobody has looked at."""
    return sorted(versions.keys() - PACKAGES.keys())


def known(versions: Mapping[str, str]) -> list[str]:
    """The listed advisories that affect these versions, such as ``idna 3.6: CVE-2024-3651``."""
    return [
        f"{name} {version}: {advisory['id']}"
        for name, version in sorted(versions.items())
        for advisory in PACKAGES.get(name, {}).get("advisories", ())
        if Version(advisory.get("introduced", "0")) <= Version(version) < Version(advisory["fixed"])
    ]


class AdvisoryTests(SynchronousTestCase):
    """R29: no known vulnerability in what Pinghub runs on."""

    def test_all_are_listed(self) -> None:
        """R29: somebody has looked at every package that Pinghub runs on."""
        self.assertEqual(unlisted(closure("pinghub")), [])

    def test_installed_versions(self) -> None:
        """R29: no installed version is affected."""
        self.assertEqual(known(closure("pinghub")), [])

    def test_lower_bounds(self) -> None:
        """R29: nor is the oldest version of a dependency that an installation can end up with."""
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
        extras = project["project"]["optional-dependencies"]
        self.assertEqual(extras.keys(), set(EXTRAS))
        bounds = lower_bounds(sum(extras.values(), project["project"]["dependencies"]))
        expected = {"autobahn", "prometheus-client", "twisted", "txredisapi", "hiredis"}
        self.assertEqual(bounds.keys(), expected)
        self.assertEqual(known(bounds), [])


class CheckTests(SynchronousTestCase):
    """The check finds what it is for."""

    def test_closure(self) -> None:
        """R29: extras are followed, and what dependencies depend on; Pinghub is not its own."""
        found = closure("pinghub")
        # Of Twisted, of its extra "tls", of a dependency of that, and of Autobahn.
        self.assertLessEqual({"attrs", "pyopenssl", "cryptography", "txaio"}, found.keys())
        self.assertNotIn("pinghub", found)

    def test_known_bad(self) -> None:
        """R29: versions with advisories are reported, each with those that affect it."""
        found = known({"twisted": "22.2.0", "idna": "3.6", "attrs": "19.1.0"})
        self.assertIn("twisted 22.2.0: CVE-2022-24801", found)
        self.assertNotIn("twisted 22.2.0: CVE-2022-21716", found, "fixed in this very release")
        self.assertEqual(
            [each for each in found if not each.startswith("twisted")],
            ["idna 3.6: CVE-2024-3651", "idna 3.6: CVE-2026-45409"],
        )

    def test_ranges(self) -> None:
        """R29: a version is affected from the first to before the last, as versions compare."""
        for version, affected in (
            ("21.2.0", False),
            ("21.7.0", True),
            ("22.1.0", True),
            ("22.2.0rc1", True),
            ("22.2.0", False),
            ("22.10.0", False),
        ):
            entry = f"twisted {version}: CVE-2022-21716"
            self.assertEqual(entry in known({"twisted": version}), affected, version)

    def test_known_bad_bounds(self) -> None:
        """R29: a bound that lets an affected version in is reported, and so is no bound at all."""
        bounds = lower_bounds(["Twisted[tls]>=22.2,<30", "zope.interface>=5"])
        self.assertEqual(bounds, {"twisted": "22.2", "zope-interface": "5"})
        self.assertIn("twisted 22.2: CVE-2022-24801", known(bounds))
        self.assertRaises(ValueError, lower_bounds, ["Twisted"])

    def test_new_dependency(self) -> None:
        """R29: a package that is not in the table is reported."""
        self.assertEqual(unlisted({"twisted": "26.10.0", "leftpad": "1.0"}), ["leftpad"])

    def test_table(self) -> None:
        """R29: every entry is complete, under the name that the check looks for."""
        self.assertIsInstance(TABLE["as_of"], datetime.date)
        self.assertEqual(TABLE.keys(), {"as_of", "packages"})
        for name, package in PACKAGES.items():
            self.assertEqual(name, canonicalize_name(name))
            self.assertLessEqual(package.keys(), {"searched", "advisories"}, name)
            ids = [advisory["id"] for advisory in package["advisories"]]
            self.assertEqual(len(ids), len(set(ids)), name)
            for advisory in package["advisories"]:
                self.assertLessEqual(advisory.keys(), {"id", "introduced", "fixed", "what"}, name)
                self.assertRegex(advisory["id"], r"\A(CVE-\d{4}-\d{4,}|GHSA(-[0-9a-z]{4}){3})\Z")
                self.assertTrue(advisory["what"], advisory["id"])
                introduced = Version(advisory.get("introduced", "0"))
                self.assertLess(introduced, Version(advisory["fixed"]), advisory["id"])
