"""The page that GET shows for a channel: a client to watch it with, and to publish to it."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from importlib.resources import files

_SCRIPTS = (
    "pinghub.js",
    "store.js",
    "list.js",
    "text.js",
    "figures.js",
    "details.js",
    "composer.js",
    "console.js",
)
"""The modules of the page, each behind those that it imports."""


def _read(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


_LEFT_OUT = re.compile(
    r'^import \{[^}]*\} from "\./\w+\.js";\n'
    r"|^ *//[^\n]*\n"
    r"|^ */\*\*.*?\*/\n"
    r"|^\n",
    re.MULTILINE | re.DOTALL,
)


def _module(text: str) -> str:
    """A module as a declaration of what it exports; all else stays its own."""
    names = ", ".join(re.findall(r"^export \w+ (\w+)", text, re.MULTILINE))
    body = re.sub("^export ", "", _LEFT_OUT.sub("", text), flags=re.MULTILINE)
    return f"const {{ {names} }} = (() => {{\n{body}return {{ {names} }};\n}})();\n"


def _script() -> str:
    """All modules as one script.

    Their imports of each other go, since what they export is in sight. Lines of comment go as well,
    a fifth of the page; no line of a template literal may look like one, nor like an export.
    """
    return "".join(_module(_read(name)) for name in _SCRIPTS)


def _hash(content: str) -> str:
    """The Content-Security-Policy source of an inline element."""
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _pieces(parts: dict[str, str]) -> list[bytes]:
    """The page without its channel: what is before, between and after the places of its name."""
    form = r"\{\{(style|script|counts)\}\}"
    template = re.sub(form, lambda found: parts[found[1]], _read("page.html"))
    return template.encode().split(b"{{channel}}")


_PARTS = {"style": _read("console.css"), "script": _script()}
_PIECES = {each: _pieces({**_PARTS, "counts": each}) for each in ("subscriber", "server")}

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    # The page runs its own script and style, has an icon of its own, talks to its own server, and
    # does nothing else. 'self' stands for its websockets too, in Safari since 2022, in others since
    # 2018. Nothing is parsed as HTML or run from a string (Trusted Types).
    "Content-Security-Policy": (
        "default-src 'none'; connect-src 'self'; img-src data:; "
        f"script-src {_hash(_PARTS['script'])}; style-src {_hash(_PARTS['style'])}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""The header lines that belong to the page."""


def page(channel: str, counts: str = "subscriber") -> bytes:
    """The page of a channel.

    Args:
        channel: its name, which may be anything a peer thought of: it is escaped.
        counts: what the answer to a POST counts, a ``subscriber`` or a ``server``.
    """
    return html.escape(channel).encode().join(_PIECES[counts])
