"""The house rules: who may import whom, and what the core knows nothing of."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import pinghub

PACKAGE = Path(pinghub.__file__).parent
CHECKOUT = Path(__file__).parent.parent

# From top to bottom: a module imports from the layers below its own, and never from its own.
# Give a new module the lowest layer that it can have.
LAYERS: list[set[str]] = [
    {"__main__"},
    {"cli"},
    {"tap"},
    {"service"},
    {"draining", "listeners"},
    {"admin", "site"},
    {"metrics", "resource"},
    {"backplane.redis"},
    {"backplane.broker"},
    {"backplane.endpoints"},
    {"backplane.connector", "backplane.interest", "backplane.links"},
    {"websocket"},
    {"backplane"},
    {"access_log", "takeover"},
    {"accepts", "arrivals"},
    {
        "addresses",
        "adopted",
        "answers",
        "autobahn_options",
        "backplane.reasons",
        "backplane.urls",
        "channel_info",
        "closing",
        "collector",
        "console",
        "handshake",
        "log_formats",
        "logs",
        "logwriter",
        "names",
        "origins",
        "plain_posts",
        "reactor",
        "signals",
        "tls",
        "transports",
        "waiting",
    },
    {"channels"},
    {"clients", "connections", "outbox", "rates"},
    {"frames", "limits", "proxies", "stats", "sweep"},
    {"errors"},
    {"__init__"},  # which imports nothing until it is asked for something
]

# What may import anything, and is imported by nobody.
ABOVE_ALL = {"testing"}

# What embedders and tests can use without a reactor, a site or a websocket library.
CORE = {
    "backplane.urls",
    "channels",
    "clients",
    "closing",
    "connections",
    "errors",
    "frames",
    "handshake",
    "limits",
    "names",
    "origins",
    "outbox",
    "plain_posts",
    "proxies",
    "rates",
    "stats",
    "sweep",
}

MUTATORS = {
    "add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove",
    "setdefault", "update",
}  # fmt: skip


def module_name(path: Path) -> str:
    """The name of a module of the package: ``console`` for ``console/__init__.py``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def parse_package() -> dict[str, ast.Module]:
    """The syntax trees of all modules, without what is for the type checker alone."""
    trees = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        tree.body = [each for each in tree.body if not is_type_checking(each)]
        trees[module_name(path)] = tree
    return trees


def is_type_checking(statement: ast.stmt) -> bool:
    """Whether a statement is an ``if TYPE_CHECKING:``."""
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"


MODULES = parse_package()


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What a tree imports, wherever in it: pairs of a module and a name in it, or nothing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError("imports are absolute in this package")
            yield from ((node.module or "", alias.name) for alias in node.names)


def looks_up_reactor(tree: ast.AST) -> bool:
    """Whether a tree imports the global reactor."""
    return any("reactor" in (name, module.rpartition(".")[2]) for module, name in imported(tree))


def own_imports(name: str) -> set[str]:
    """The modules of this package that a module imports."""
    found = set()
    for module, member in imported(MODULES[name]):
        first, _, rest = module.partition(".")
        if first == "pinghub":
            found.add(rest or (member if member in MODULES else "__init__"))
    return found


def rank(name: str) -> int:
    """The number of the layer of a module, counted from the bottom."""
    for number, layer in enumerate(reversed(LAYERS)):
        if name in layer:
            return number
    raise ValueError(f"give pinghub/{name} a layer in tests/test_layers.py")


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after a statement."""
    program = f"{statement}; import sys; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True, text=True
    )
    return set(result.stdout.split())


class LayerTests(SynchronousTestCase):
    """Imports point one way."""

    def test_imports_point_down(self) -> None:
        """No module imports from its own layer or from one above it, not even in a function."""
        for name in MODULES.keys() - ABOVE_ALL:
            for other in own_imports(name):
                self.assertNotIn(other, ABOVE_ALL, f"{name} imports {other}")
                self.assertLess(rank(other), rank(name), f"{name} imports {other}")

    def test_layers_are_the_modules(self) -> None:
        """Every module has one layer, and every layer has modules that exist."""
        layered = [name for layer in LAYERS for name in layer]
        self.assertEqual(len(layered), len(set(layered)))
        self.assertEqual(set(layered) | ABOVE_ALL, set(MODULES))

    def test_plugin_imports_nothing(self) -> None:
        """The plugin names the module by a string: listing plugins loads nothing of it."""
        path = CHECKOUT / "twisted" / "plugins" / "pinghub_plugin.py"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        makers = {"reactors": "Reactor", "service": "ServiceMaker"}
        self.assertEqual(
            set(imported(tree)),
            {(f"twisted.application.{module}", name) for module, name in makers.items()},
        )
        strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        self.assertLessEqual({"pinghub.tap", "pinghub.reactor"}, strings)

    def test_no_star_imports(self) -> None:
        """Every name says where it comes from."""
        for name, tree in MODULES.items():
            self.assertNotIn("*", [member for _, member in imported(tree)], name)


class CoreTests(SynchronousTestCase):
    """What the core knows nothing of."""

    def test_core_needs_the_standard_library_only(self) -> None:
        """The core modules import the standard library and each other, and nothing else."""
        for name in CORE:
            for module, _ in imported(MODULES[name]):
                first = module.partition(".")[0]
                known = first in sys.stdlib_module_names or first == "pinghub"
                self.assertTrue(known, f"{name} imports {module}")
            self.assertEqual(own_imports(name) - CORE, set(), name)

    def test_core_loads_no_twisted(self) -> None:
        """In a fresh interpreter, the hub loads neither Autobahn nor anything of Twisted."""
        loaded = loaded_by("import pinghub.channels")
        self.assertIn("pinghub.channels", loaded)
        foreign = {"twisted", "autobahn", "txaio", "zope"}
        self.assertEqual({each for each in loaded if each.partition(".")[0] in foreign}, set())

    def test_only_the_websocket_module_knows_autobahn(self) -> None:
        """One module imports the websocket library, and none imports what it brings along."""
        knowing = {
            name
            for name, tree in MODULES.items()
            for module, _ in imported(tree)
            if module.partition(".")[0] in ("autobahn", "txaio")
        }
        self.assertEqual(knowing, {"websocket"})

    def test_no_backplane_unless_asked_for(self) -> None:
        """Without ``--backplane`` nothing of Redis is loaded: neither clients nor our own code."""
        program = (
            "from pinghub.cli import CommandOptions; from pinghub.tap import makeService; "
            "from twisted.internet.task import Clock; "
            "options = CommandOptions({}); options.parseOptions(['--admin=127.0.0.1:0']); "
            "makeService(options, Clock())"
        )
        loaded = loaded_by(program)
        self.assertIn("pinghub.service", loaded)
        redis = {"pinghub.backplane.redis", "pinghub.backplane.broker", "txredisapi", "hiredis"}
        self.assertEqual(loaded & redis, set())

    def test_global_reactor(self) -> None:
        """The global reactor is looked up in ``tap.makeService`` and ``cli.the_reactor`` alone."""
        anywhere = [name for name, tree in MODULES.items() if looks_up_reactor(tree)]
        functions = {
            (name, node.name)
            for name, tree in MODULES.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and looks_up_reactor(node)
        }
        self.assertEqual(anywhere, ["cli", "tap"])
        self.assertEqual(functions, {("cli", "the_reactor"), ("tap", "makeService")})
        outside = [
            name
            for name, tree in MODULES.items()
            for statement in tree.body
            if not isinstance(statement, ast.FunctionDef)
            if looks_up_reactor(statement)
        ]
        self.assertEqual(outside, [])


class PublicNameTests(SynchronousTestCase):
    """The package itself."""

    def test_public_names(self) -> None:
        """Every public name can be had from the package, and is what its module defines."""
        for name in pinghub.__all__:
            value = getattr(pinghub, name)
            if name != "__version__":
                self.assertEqual(value.__name__, name)
                self.assertIs(value, getattr(import_module(value.__module__), name))

    def test_public_names_are_known_to_type_checkers(self) -> None:
        """What is imported on first use is declared for type checkers, from the same module."""
        tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
        declared = {
            (member, module)
            for statement in tree.body
            if is_type_checking(statement)
            for module, member in imported(statement)
        }
        public = set(pinghub.__all__) - {"__version__"}
        actual = {(name, getattr(pinghub, name).__module__) for name in public}
        self.assertEqual(declared, actual)

    def test_other_names(self) -> None:
        """A name that is not public is no attribute, as of any module."""
        error = self.assertRaises(AttributeError, getattr, pinghub, "nonsense")
        self.assertEqual(str(error), "module 'pinghub' has no attribute 'nonsense'")


class StateTests(SynchronousTestCase):
    """Nothing is kept outside of objects."""

    def test_module_level_names_are_constants(self) -> None:
        """At module level there are constants and types by their spelling, and no ``global``."""
        for name, tree in MODULES.items():
            for statement in tree.body:
                targets: list[ast.expr] = []
                if isinstance(statement, ast.Assign):
                    targets = statement.targets
                elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
                    targets = [statement.target]
                for target in targets:
                    text = ast.unparse(target)
                    spelled = text.isupper() or text.lstrip("_")[:1].isupper()
                    self.assertTrue(spelled or text.startswith("__"), f"{name}: {text}")
            found = [node for node in ast.walk(tree) if isinstance(node, ast.Global)]
            self.assertEqual(found, [], name)

    def test_constants_stay_constant(self) -> None:
        """No constant is changed in place, in whatever function."""
        for name, tree in MODULES.items():
            for node in ast.walk(tree):
                changed: list[ast.expr] = []
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    changed = [node.func.value] if node.func.attr in MUTATORS else []
                elif isinstance(node, ast.Assign | ast.Delete):
                    changed = [
                        each.value for each in node.targets if isinstance(each, ast.Subscript)
                    ]
                for each in changed:
                    self.assertFalse(ast.unparse(each).isupper(), f"{name}: {ast.unparse(node)}")


class CheckoutTests(SynchronousTestCase):
    """What lies where."""

    def test_every_module_has_its_tests(self) -> None:
        """Each module has a test module of its name."""
        # The package itself is tested above, and __main__ with the command.
        for name in MODULES.keys() - {"__init__", "__main__"}:
            path = CHECKOUT / "tests" / f"test_{name.replace('.', '_')}.py"
            self.assertTrue(path.is_file(), path.name)

    def test_twisted_is_left_alone(self) -> None:
        """There is no ``__init__.py`` below ``twisted``: installed, it would replace Twisted's."""
        found = sorted(path.name for path in (CHECKOUT / "twisted").rglob("*.py"))
        self.assertEqual(found, ["pinghub_plugin.py"])
