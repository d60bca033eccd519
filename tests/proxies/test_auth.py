"""Authentication behind nginx and HAProxy: who gets in, who does not, and where they arrive.

The tokens are made by the code in docs/authentication.md; those that are meant to be refused, by
``signed``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import skipUnless
from urllib.parse import quote, unquote

import websockets
from websockets.exceptions import InvalidStatus

from pinghub.testing import CLOSE, TEXT, client_frame, http_request, upgrade_request
from tests.faults.harness import PATIENCE, Peer, eventually
from tests.proxies.harness import DEPLOY, HAProxyTests, NginxTests, ProxyTests, free_port

DOCS = Path(__file__).parent.parent.parent / "docs" / "authentication.md"
SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
CURL = shutil.which("curl") or ""
VARIABLE = "PINGHUB_JWT_SECRET"
ORIGIN = "https://www.example.com"
CLIENT = "127.0.0.2"
HS256 = {"alg": "HS256"}

CHANNELS = (
    "inbox",
    "two words",
    "a/b",
    "a?b#c",
    "50%",
    "%2F",
    "caf\u00e9",
    "\u4e2d\u6587",
    "a+b;c=d&e",
    "\"<>^`{|}\\'",
    "line\nend",
    "end\n",
    "\r\nX-User: bob",
    "$user$1$uri",
    "~.-_!*()@:,",
)


def token(user: str, seconds: int = 300) -> str:
    """A good token, as docs/authentication.md makes it."""
    found: dict[str, object] = {}
    (code,) = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    exec(compile(code, DOCS.name, "exec"), found)
    made: str = found["token"](user, seconds)  # type: ignore[operator]
    return made


def encoded(part: bytes) -> str:
    """Base64url, as tokens use it."""
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def signed(header: object, claims: object, key: str = SECRET) -> str:
    """A token with any header and claims; bytes stand for the JSON to write."""
    parts = (
        each if isinstance(each, bytes) else json.dumps(each).encode() for each in (header, claims)
    )
    text = ".".join(map(encoded, parts))
    return f"{text}.{encoded(hmac.digest(key.encode(), text.encode(), 'sha256'))}"


def bad_tokens() -> dict[str, str]:
    """Tokens that let nobody in, by what is wrong with them."""
    claims = {"sub": "alice", "exp": int(time.time()) + 300}
    good = signed(HS256, claims)
    text, _, signature = good.rpartition(".")
    other = "B" if signature[0] == "A" else "A"
    return {
        "empty": "",
        "nothing like one": "alice",
        "dots": "..",
        "no signature": text,
        "an empty signature": text + ".",
        "another signature": f"{text}.{other}{signature[1:]}",
        "a short signature": good[:-2],
        "a long signature": good + "AA",
        "other claims": f"{encoded(b'{}')}.{encoded(json.dumps(claims).encode())}.{signature}",
        "another key": signed(HS256, claims, "x" * 32),
        "the empty key": signed(HS256, claims, ""),
        "the name of the key": signed(HS256, claims, "proc.jwt_secret"),
        "unsigned": signed({"alg": "none"}, claims).rpartition(".")[0] + ".",
        "alg none, signed": signed({"alg": "none"}, claims),
        "alg None, signed": signed({"alg": "None"}, claims),
        "another algorithm": signed({"alg": "HS512"}, claims),
        "no algorithm": signed({}, claims),
        "a header that is none": signed([], claims),
        "expired": signed(HS256, claims | {"exp": int(time.time()) - 1}),
        "expired long ago": signed(HS256, claims | {"exp": 0}),
        "no expiry": signed(HS256, {"sub": "alice"}),
        "an expiry of null": signed(HS256, claims | {"exp": None}),
        "an expiry of true": signed(HS256, claims | {"exp": True}),
        "an expiry that is none": signed(HS256, claims | {"exp": "never"}),
        "an expiry of NaN": signed(HS256, b'{"sub":"alice","exp":NaN}'),
        "nobody": signed(HS256, {"exp": claims["exp"]}),
        "a user of null": signed(HS256, claims | {"sub": None}),
        "a list of users": signed(HS256, claims | {"sub": ["alice"]}),
        "claims that are none": signed(HS256, b"[1]"),
        "claims that are not JSON": signed(HS256, b"\xff"),
    }


def bad_users() -> Iterator[str]:
    """Names that are no segment of a path, or become somebody else's on the way; as JSON."""
    for name in (
        "",
        ".",
        "..",
        "/",
        "bob/inbox",
        "/bob",
        "bob/",
        "alice/../bob",
        "../user/bob",
        "..%2fbob",
        " bob",
        "bob ",
        "\tbob",
        "bob\t",
        "bob\n",
        "bob\r\n",
        "bob\r\nX-User: bob",
        "bob\0",
        "bob\0x",
        "bob\x7f",
        "bob\u0085",
        "\u00a0bob",
        "bob\u2028",
        "\ud800",
        "b" * 65,
    ):
        yield json.dumps(name)
        with contextlib.suppress(UnicodeEncodeError):
            name.encode()
            yield json.dumps(name, ensure_ascii=False)


def spellings(path: str) -> list[str]:
    """Ways to write a path, and ways to write what a careless proxy would take for it."""
    single = [path[:i] + f"%{ord(path[i]):02x}" + path[i + 1 :] for i in range(1, len(path))]
    return [
        path,
        *single,
        "/" + "".join(f"%{ord(each):02X}" for each in path[1:]),
        path.replace("/", "//"),
        "/" + path,
        "/." + path,
        path.replace("/user/", "/user/./"),
        path.replace("/user/", "/user/x/../"),
        f"/me/..{path}",
        f"/me/%2e%2e{path}",
        f"/me/..%2f{path[1:]}",
        f"/me/%2e%2e%2f{path[1:]}",
        f"/me/.%2e/..{path}",
        "/me/../bob/inbox",
        "/me/%2e%2e/bob/inbox",
        "/me/..;/bob/inbox",
        "/me/..\\bob\\inbox",
        f"/me/x%00/..{path}",
        f"/me/x?/..{path}",
        f"/me/x%3F/..{path}",
        f"/me/x#/..{path}",
        f"/me/x%23/..{path}",
        f"/news/..{path}",
        f"/news/%2e%2e{path}",
        f"/news/x/../..{path}",
        f"/news/../me/..{path}",
        f"/auth{path}",
        f"/auth/..{path}",
        f"{path}?token=x",
        f"{path}#x",
        f"{path};x",
        f"/%252e%252e{path}",
        path.replace("user", "%2575ser"),
        path.replace("/", "\\").replace("\\", "/", 1),
        path.upper(),
        f"http://example.com{path}",
        f"http://example.com/me/..{path}",
        f"/nonexistent{path}",
        f"/me/%0d%0aGET%20{path}%20HTTP/1.1%0d%0aHost:%20x%0d%0a%0d%0a",
        "/me/" + "+" * 2000,
        "/news/" + "%2B" * 2000,
    ]


def bearer(token: str) -> dict[str, str]:
    """The header field that carries a token."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def ways(token: str) -> list[tuple[str, dict[str, str]]]:
    """All ways to carry a token: what to add to the path, and header fields."""
    return [("", bearer(token)), (f"?token={token}", {}), ("", {"Cookie": f"a=b; token={token}"})]


def listens(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class FakeServer:
    """A server that answers everything alike, once on each connection.

    It closes a connection when it is asked a second time there.

    Args:
        port: where it listens.

    Attributes:
        answer: the bytes to answer; nothing at all for None, and a closed connection for none.
        questions: the requests that were answered.
    """

    def __init__(self, port: int) -> None:
        self.answer: bytes | None = b""
        self.questions: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError), selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            with contextlib.ExitStack() as stack:
                while True:  # Until the listener is shut down.
                    for key, _ in selector.select():
                        if key.fileobj is self._listener:
                            connection = stack.enter_context(self._listener.accept()[0])
                            if self._answer(connection):
                                selector.register(connection, selectors.EVENT_READ, connection)
                        else:
                            selector.unregister(key.fileobj)
                            key.data.close()

    def _answer(self, connection: socket.socket) -> bool:
        """Read one request and answer it; whether the connection stays open."""
        connection.settimeout(PATIENCE)
        question = b""
        while not question.endswith(b"\r\n\r\n") and (piece := connection.recv(65536)):
            question += piece
        self.questions.append(question)
        if self.answer:
            connection.sendall(self.answer)
        if self.answer == b"":
            connection.close()
            return False
        return True

    def stop(self) -> None:
        """Close everything."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


class Both:
    """What holds behind either proxy. In here, so that it does not run without one."""

    class AuthTests(ProxyTests):
        """Who gets in, who does not, and where they arrive."""

        USERS: tuple[str, ...]
        DOWN: int  # the status while the servers are dead

        def setUp(self) -> None:
            os.environ[VARIABLE] = SECRET
            self.addCleanup(os.environ.pop, VARIABLE)
            self.private_port = free_port()
            super().setUp()

        def options(self) -> list[str]:
            return [
                f"--origin={ORIGIN}",
                "--post-only=/*",
                "--max-age=1h",
                "--trust-proxy=127.0.0.1",
                "--log-level=debug",
            ]

        def changes(self) -> dict[str, str]:
            private = f"127.0.0.1:{self.private_port}"
            return super().changes() | {"127.0.0.1:8080": private}

        def log_lines(self) -> list[str]:
            """What the proxy has logged."""
            raise NotImplementedError

        def ask(self, request: bytes, source: str = "127.0.0.1") -> tuple[int, dict[str, str]]:
            """Status and header fields of the answer; the connection stays open."""
            peer = self.connect(source)
            peer.send(request)
            return peer.response()[:2]

        def handshake(self, path: str, headers: dict[str, str]) -> int:
            """What a handshake is answered with; a websocket stays open."""
            return self.ask(upgrade_request(path, headers))[0]

        def post(self, path: str, headers: dict[str, str]) -> int:
            """What a POST is answered with."""
            return self.ask(http_request("POST", path, b"from outside", headers))[0]

        def listen(self, path: str, headers: dict[str, str]) -> Peer:
            """A websocket through the proxy."""
            peer = self.connect()
            peer.upgrade(path, **headers)
            return peer

        def private(self) -> Peer:
            """A connection of an application server."""
            peer = Peer(socket.create_connection(("127.0.0.1", self.private_port), PATIENCE))
            self.addCleanup(peer.close)
            return peer

        def publish(self, path: str, body: bytes = b"from inside") -> int:
            """POST as an application server does; to how many it was handed."""
            status, subscribers = self.private().post(path, body)
            self.assertEqual(status, 200, path)
            return subscribers

        def test_good_tokens(self) -> None:
            """A good token lets in, however it is carried, and the messages arrive."""
            for query, headers in ways(token("alice")):
                peer = self.listen("/me/inbox" + query, headers)
                self.assertEqual(self.publish("/user/alice/inbox"), 1)
                self.assertEqual(peer.message(), b"from inside")
                publisher = self.connect()
                answer = publisher.post("/me/inbox" + query, b"from outside", **headers)
                self.assertEqual(answer, (200, 1))
                self.assertEqual(peer.message(), b"from outside")
                for size, status in ((65_536, 200), (65_537, 413)):
                    publisher = self.connect()
                    answer = publisher.post("/me/inbox" + query, b"x" * size, **headers)
                    self.assertEqual(answer[0], status)
                peer.close()
                eventually(lambda: not self.publish("/user/alice/inbox"), PATIENCE, "it is gone")

        def test_bad_tokens(self) -> None:
            """No token is 401, and so is each that is not good, however it is carried."""
            peer = self.listen("/me/inbox", bearer(token("alice")))
            bad: dict[str, tuple[str, dict[str, str]]] = {"none": ("", {})}
            bad |= {
                f"{what}, {number}": way
                for what, token in bad_tokens().items()
                for number, way in enumerate(ways(token))
            }
            for what, (query, headers) in bad.items():
                for path in ("/me/inbox", "/news/today", "/else"):
                    self.assertEqual(self.handshake(path + query, headers), 401, what)
                self.assertEqual(self.post("/me/inbox" + query, headers), 401, what)
            _, fields = self.ask(http_request("GET", "/me/inbox"))
            self.assertEqual(fields["www-authenticate"], "Bearer")
            self.assertEqual(self.publish("/user/alice/inbox"), 1)
            self.assertEqual(peer.message(), b"from inside")

        def test_websockets(self) -> None:
            """A client that others wrote learns the status of a refusal, and gets messages."""
            # Not the one with threads: two of them share a TLS connection, which OpenSSL does not
            # allow and Python 3.11 does not prevent. One request in 600 never left it.
            asyncio.run(self.use_websockets(f"wss://localhost:{self.port}"))

        async def use_websockets(self, url: str) -> None:
            refused = {
                "/me/inbox": 401,
                f"/me/inbox?token={token('alice', -1)}": 401,
                f"/user/bob/inbox?token={token('alice')}": 403,
                f"/else?token={token('alice')}": 403,
            }
            context = self.proxy.context
            connect = partial(websockets.connect, ssl=context, open_timeout=PATIENCE)
            for path, status in refused.items():
                with self.assertRaises(InvalidStatus) as caught:
                    await connect(url + path)
                self.assertEqual(caught.exception.response.status_code, status, path)
            path = f"/me/inbox?token={token('alice')}"
            async with connect(url + path) as websocket:
                self.assertEqual(self.publish("/user/alice/inbox"), 1)
                self.assertEqual(await asyncio.wait_for(websocket.recv(), PATIENCE), "from inside")

        def test_own_channels(self) -> None:
            """/me/inbox of a user is what others know as /user/name/inbox, whatever the names."""
            pairs = [(self.USERS[0], channel) for channel in CHANNELS]
            pairs += [(user, channel) for user in self.USERS[1:] for channel in CHANNELS[:3]]
            for user, channel in pairs:
                headers = bearer(token(user))
                peer = self.listen("/me/" + quote(channel, safe=""), headers)
                full = f"/user/{quote(user)}/{quote(channel)}"
                self.assertEqual(self.publish(full), 1, full)
                self.assertEqual(peer.message(), b"from inside")
                publisher = self.connect()
                answer = publisher.post("/me/" + quote(channel), b"from outside", **headers)
                self.assertEqual(answer, (200, 1), full)
                self.assertEqual(peer.message(), b"from outside")

        def test_channels_of_others(self) -> None:
            """No spelling of a path leads to a channel of somebody else, for no method."""
            peer = self.listen("/me/inbox", bearer(token("bob")))
            for path in spellings("/user/bob/inbox"):
                for headers in (bearer(token("alice")), {}):
                    status = self.handshake(path, headers)
                    self.assertIn(
                        status, (101, 400, 401, 403, 404) if headers else (400, 401, 403), path
                    )
                    status = self.post(path, headers)
                    self.assertIn(
                        status, (200, 400, 401, 403, 404) if headers else (400, 401, 403), path
                    )
            for path in ("/user/bob/inbox", "/%75ser/bob/inbox", "/user%2fbob%2finbox"):
                self.assertEqual(self.handshake(path, bearer(token("alice"))), 403, path)
                self.assertEqual(self.post(path, bearer(token("bob"))), 403, path)
            self.assertEqual(self.publish("/user/bob/inbox"), 1)
            self.assertEqual(peer.message(), b"from inside")

        def test_long_paths(self) -> None:
            """A path that is too long for a channel is refused, and not cut."""
            # The last is longer, encoded, than what HAProxy can encode.
            for name in ("+" * 251, "%2B" * 2000, quote("\u4e2d" * 251), "+" * 5500):
                for path in ("/me/", "/news/"):
                    self.assertEqual(self.handshake(path + name, bearer(token("alice"))), 400, name)

        def test_names_of_others(self) -> None:
            """A token for a name that is no segment of a path lets nobody in."""
            peer = self.listen("/me/inbox", bearer(token("bob")))
            expiry = int(time.time()) + 300
            for name in bad_users():
                made = signed(HS256, f'{{"sub":{name},"exp":{expiry}}}'.encode())
                for path in ("/me/inbox", "/me/"):
                    self.assertEqual(self.handshake(path, bearer(made)), 401, name)
                    self.assertEqual(self.post(path, bearer(made)), 401, name)
            self.assertEqual(self.publish("/user/bob/inbox"), 1)
            self.assertEqual(peer.message(), b"from inside")

        def test_names_in_disguise(self) -> None:
            """Another name does not become somebody's by how the token is written."""
            cafe = self.private()
            cafe.upgrade("/user/caf%C3%A9/inbox")
            expiry = int(time.time()) + 300
            # As bytes or as escapes: what UTF-8 makes of "café", read as Latin-1, and the like.
            for name in (r'"caf\u00c3\u00a9"', '"caf\u00c3\u00a9"', r'"caf\u0065\u0301"', '"cafe"'):
                made = signed(HS256, f'{{"sub":{name},"exp":{expiry}}}'.encode())
                self.assertIn(self.handshake("/me/inbox", bearer(made)), (101, 401))
                self.assertIn(self.post("/me/inbox", bearer(made)), (200, 401))
            self.assertEqual(self.publish("/user/caf%C3%A9/inbox"), 1)
            self.assertEqual(cafe.message(), b"from inside")

        def test_news(self) -> None:
            """News are for all who have a token, and from application servers only."""
            peer = self.listen("/news/today", bearer(token("alice")))
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                request = http_request(method, "/news/today", b"fake", bearer(token("alice")))
                self.assertEqual(self.ask(request)[0], 403, method)
            self.assertEqual(self.publish("/news/today?x"), 1)
            self.assertEqual(peer.message(), b"from inside")
            peer.send(client_frame(TEXT, b"fake"))
            frame = peer.frame()
            self.assertEqual((frame.opcode, frame.payload[:2]), (CLOSE, (1008).to_bytes(2, "big")))

        def test_made_up_headers(self) -> None:
            """What a client writes into header fields of ours changes nothing."""
            fake = {
                "X-User": "bob",
                "X-Token": token("bob"),
                "X-Original-Method": "GET",
                "X-Original-URI": f"/me/inbox?token={token('bob')}",
                "X-Auth-Request-User": "bob",
                "X-Rewrite-URL": "/user/bob/inbox",
                "X-HTTP-Method-Override": "GET",
                "X_User": "bob",
            }
            alice = bearer(token("alice"))
            for headers in (fake, {"X-Token": token("alice")}):
                self.assertEqual(self.handshake("/me/inbox", headers), 401)
                self.assertEqual(self.post("/me/inbox", headers), 401)
            self.assertEqual(self.post("/news/today", fake | alice), 403)
            peer = self.listen("/me/inbox", fake | alice)
            self.assertEqual(self.publish("/user/bob/inbox"), 0)
            self.assertEqual(self.publish("/user/alice/inbox"), 1)
            self.assertEqual(peer.message(), b"from inside")

        def test_what_pinghub_gets(self) -> None:
            """No token reaches Pinghub, nor what a client says about itself; other fields do."""
            ports = [each.port for each in self.servers] + list(self.admin_ports.values())
            for server in self.servers:
                server.kill()
            fakes = [FakeServer(port) for port in ports]
            for fake in fakes:
                self.addCleanup(fake.stop)
                fake.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            made = token("alice")
            more = {"X-User": "bob", "X-Forwarded-For": "203.0.113.9", "X-Other": "other"}
            paths = {"/me/inbox": "/user/alice/inbox", "/news/%74oday": "/news/today"}
            for path in paths:
                for query, headers in ways(made):
                    request = http_request("GET", f"{path}{query}", headers=headers | more)
                    self.assertEqual(self.ask(request, CLIENT)[0], 200)
            questions = [each for fake in fakes for each in fake.questions if b"readyz" not in each]
            self.assertEqual(len(questions), 6)
            for question in questions:
                line, _, rest = question.decode().partition("\r\n")
                target = re.fullmatch("GET (.*) HTTP/1.1", line)
                assert target is not None
                self.assertIn(unquote(target[1]), paths.values())
                fields = sorted(line.lower() for line in rest.split("\r\n") if line)
                self.assertEqual(
                    fields, ["host: example.com", f"x-forwarded-for: {CLIENT}", "x-other: other"]
                )

        def test_origins(self) -> None:
            """A page of another origin gets nowhere with its visitor's cookie, and is logged."""
            cookie = {"Cookie": f"token={token('alice')}"}
            self.assertEqual(self.handshake("/me/inbox", cookie | {"Origin": ORIGIN}), 101)
            evil = cookie | {"Origin": "https://evil.example", "X-Forwarded-For": "203.0.113.9"}
            for request in (
                upgrade_request("/me/inbox", evil),
                http_request("POST", "/me/inbox", b"x", evil),
            ):
                self.assertEqual(self.ask(request, CLIENT)[0], 403)
            (owner,) = self.owners("/user/alice/inbox")
            owner.wait_for(re.compile(rf"Refused an origin .*client='{re.escape(CLIENT)}'"))

        def test_preflights(self) -> None:
            """A page of an allowed origin may ask, without a token, whether it may send one."""
            asking = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
            for path in ("/me/inbox", "/me/caf%C3%A9?token=x"):
                status, fields = self.ask(http_request("OPTIONS", path, headers=asking))
                self.assertEqual(status, 204)
                self.assertEqual(fields["access-control-allow-origin"], ORIGIN)
                self.assertIn("Authorization", fields["access-control-allow-headers"])
            peer = self.listen("/me/inbox", bearer(token("bob")))
            for path in spellings("/user/bob/inbox"):
                upgrade = upgrade_request(path, asking).replace(b"GET ", b"OPTIONS ", 1)
                self.assertIn(self.ask(upgrade)[0], (204, 400, 403, 404), path)
            self.assertEqual(self.publish("/user/bob/inbox"), 1)
            self.assertEqual(peer.message(), b"from inside")

        def test_each_request_on_its_own(self) -> None:
            """What one request was allowed says nothing about the next on the same connection."""
            alice = bearer(token("alice"))
            for first in (
                http_request("POST", "/me/inbox", b"x", alice),
                http_request("GET", "/me/inbox", headers=alice),
                # It is refused by Pinghub, and must not make a tunnel of the connection.
                upgrade_request("/me/inbox", alice | {"Sec-WebSocket-Version": "777"}),
            ):
                for second, refusal in (
                    (upgrade_request("/me/inbox"), 401),
                    (http_request("POST", "/me/inbox", b"x"), 401),
                    (upgrade_request("/user/bob/inbox", alice), 403),
                ):
                    peer = self.connect()
                    peer.send(first + second)
                    self.assertIn(peer.response()[0], (200, 426))
                    with contextlib.suppress(EOFError):  # It may have been closed instead.
                        self.assertEqual(peer.response()[0], refusal)
            self.assertEqual(self.publish("/user/bob/inbox"), 0)

        def test_logs(self) -> None:
            """Who came to which channel is logged, and tokens are not: not even after failures."""
            made = token("alice")
            for query, headers in ways(made):
                self.listen("/me/in%22%0ax" + query, headers).close()
                self.assertEqual(self.handshake("/user/bob/inbox" + query, headers), 403)
                self.assertEqual(self.handshake("/news/today" + query, headers), 101)
            (owner,) = self.owners("/news/today")
            owner.wait_for(re.compile("Subscribed.*/news/today"))
            for server in self.servers:
                server.kill()
            for query, headers in ways(made):
                headers = headers | {"Referer": f"{ORIGIN}/?token={made}"}
                self.assertEqual(self.handshake("/news/today" + query, headers), self.DOWN)
            self.failures()
            lines: list[str] = []

            def complete() -> bool:
                lines[:] = self.log_lines()
                return sum("/news/today" in line and str(self.DOWN) in line for line in lines) >= 3

            eventually(complete, PATIENCE, "all is logged")
            whole = [
                each for each in lines if re.search(r'"alice".*/in(%22|\\x22).*x\b.* 101', each)
            ]
            self.assertEqual(len(whole), 3, lines)
            logs = lines + [line for server in self.servers for line in server.output]
            for part in made.split("."):
                self.assertEqual([line for line in logs if part in line], [])

        def failures(self) -> None:
            """Whatever else may fail while a token is in the query."""


class NginxAuthTests(Both.AuthTests, NginxTests):
    """Behind nginx, with its service."""

    SOURCE = "nginx/auth.conf"
    USERS = (
        "alice",
        "al ice",
        "caf\u00e9",
        "\u4e2d\u6587",
        "50%",
        "a%2Fb",
        "a?b#c",
        "a+b@example.com",
        "\"\\$1'",
        "\u00e9" * 64,
    )
    DOWN = 502

    def setUp(self) -> None:
        self.service_port = free_port()
        self.service = subprocess.Popen(
            [sys.executable, str(DEPLOY / "nginx" / "auth_service.py"), str(self.service_port)],
            env=os.environ | {VARIABLE: SECRET},
        )
        self.addCleanup(self.stop_service)
        eventually(lambda: listens(self.service_port), PATIENCE, "the service")
        super().setUp()

    def stop_service(self) -> None:
        """End the service."""
        self.service.terminate()
        self.service.wait(PATIENCE)

    def changes(self) -> dict[str, str]:
        return super().changes() | {"127.0.0.1:9000": f"127.0.0.1:{self.service_port}"}

    def log_lines(self) -> list[str]:
        logs = (self.directory / name for name in ("access.log", "error.log", "proxy.log"))
        return [line for log in logs for line in log.read_text().splitlines()]

    def failures(self) -> None:
        self.stop_service()
        for query, headers in ways(token("alice")):
            self.assertEqual(self.handshake("/me/inbox" + query, headers), 500)

    def nobody_gets_in(self, peer: Peer) -> None:
        """Every request of browsers is answered 500; the only subscriber gets nothing of it."""
        for query, headers in [("", {}), *ways(token("alice"))]:
            for path in ("/me/inbox", "/news/today"):
                self.assertEqual(self.handshake(path + query, headers), 500)
                self.assertEqual(self.post(path + query, headers), 500)
        self.assertEqual(self.publish("/user/alice/inbox"), 1)
        self.assertEqual(peer.message(), b"from inside")
        self.assertEqual(self.publish("/user//inbox"), 0)
        self.assertEqual(self.publish("/news/today"), 0)

    def test_a_dead_service(self) -> None:
        """While the service is dead nobody gets in, and application servers still publish."""
        peer = self.private()
        peer.upgrade("/user/alice/inbox")
        self.stop_service()
        self.nobody_gets_in(peer)

    def test_a_broken_service(self) -> None:
        """Whatever the service answers but 2xx with a name, 401 and 403: nobody gets in."""
        self.proxy.configure({"proxy_read_timeout 5s": "proxy_read_timeout 300ms"})
        self.reload()
        self.stop_service()
        service = FakeServer(self.service_port)
        self.addCleanup(service.stop)
        peer = self.private()
        peer.upgrade("/user/alice/inbox")
        for answer in (
            b"HTTP/1.1 500 No\r\nX-User: alice\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 302 There\r\nX-User: alice\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 404 No\r\nX-User: alice\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-User:   \r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-User: a/b\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-User: ..\r\nContent-Length: 0\r\n\r\n",
            b"not HTTP\r\n\r\n",
            b"",
            None,
        ):
            service.answer = answer
            self.nobody_gets_in(peer)

    def test_a_careless_service(self) -> None:
        """Even if the service lets everybody in, channels of others are reached as /me/ only."""
        self.stop_service()
        service = FakeServer(self.service_port)
        self.addCleanup(service.stop)
        service.answer = b"HTTP/1.1 204 Yes\r\nX-User: alice\r\n\r\n"
        peer = self.private()
        peer.upgrade("/user/bob/inbox")
        for path in spellings("/user/bob/inbox"):
            self.assertIn(self.handshake(path, {}), (101, 400, 403, 404), path)
            self.assertIn(self.post(path, {}), (200, 400, 403, 404), path)
        self.assertEqual(self.publish("/user/bob/inbox"), 1)
        self.assertEqual(peer.message(), b"from inside")
        asked = len(service.questions)
        self.assertEqual(self.handshake("/auth", {}), 404)
        self.assertEqual(len(service.questions), asked)

    def test_normalised(self) -> None:
        """A path means the same on both sides, however many slashes and dots there are in it."""
        peer = self.listen("/news/./a//b/x/..", bearer(token("alice")))
        for path in ("/news/a/b/", "//news/x/../a/b/", "/news/%2e/a%2fb/?x"):
            self.assertEqual(self.publish(path), 1)
            self.assertEqual(peer.message(), b"from inside")

    def test_closed_connections(self) -> None:
        """That the service has just closed a connection, which nginx kept, is no failure."""
        self.stop_service()
        service = FakeServer(self.service_port)
        self.addCleanup(service.stop)
        service.answer = b"HTTP/1.1 204 Yes\r\nX-User: alice\r\n\r\n"
        publisher = self.connect()
        for _ in range(3):
            self.assertEqual(publisher.post("/me/inbox", b"x"), (200, 0))
        self.assertEqual(len(service.questions), 3)

    def test_one_question(self) -> None:
        """The service is asked once for each handshake and each POST, with no body."""
        self.stop_service()
        service = FakeServer(self.service_port)
        self.addCleanup(service.stop)
        service.answer = b"HTTP/1.1 204 Yes\r\nX-User: alice\r\n\r\n"
        headers = {"Authorization": "a", "Cookie": "c", "X-Other": "o", "X-User": "bob"}
        self.assertEqual(self.post("/me/./two%20words%0a%3F?token=t&x=y", headers), 200)
        self.assertEqual(self.handshake("/news/today", {}), 101)
        post, get = service.questions
        lines = post.decode().split("\r\n")
        self.assertEqual(lines[0], "GET /me/two%20words%0A%3F HTTP/1.1")
        self.assertEqual(
            sorted(lines[1:-2]),
            [
                "Authorization: a",
                "Cookie: c",
                "Host: auth",
                "X-Original-Method: POST",
                "X-Token: t",
            ],
        )
        lines = get.decode().split("\r\n")
        self.assertEqual(lines[0], "GET /news/today HTTP/1.1")
        self.assertEqual(sorted(lines[1:-2]), ["Host: auth", "X-Original-Method: GET"])

    def test_secrets(self) -> None:
        """The service does not start without a secret, nor with a short one."""
        for secret in ("", SECRET[:31]):
            command = [sys.executable, str(DEPLOY / "nginx" / "auth_service.py"), str(free_port())]
            ended = subprocess.run(
                command,
                env=os.environ | {VARIABLE: secret},
                stderr=subprocess.PIPE,
                timeout=PATIENCE,
                check=False,
            )
            self.assertEqual(ended.returncode, 1)
            self.assertIn(VARIABLE.encode(), ended.stderr)


class HAProxyAuthTests(Both.AuthTests, HAProxyTests):
    """Behind HAProxy."""

    SOURCE = "haproxy/auth.cfg"
    USERS = ("alice", "al ice", "a+b@example.com", "Zo_-9.x", "-", "a" * 64)
    DOWN = 503

    def setUp(self) -> None:
        # The kernel keeps ten datagrams for a unix socket, as /dev/log is one, and many more here.
        self.syslog = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.syslog.close)
        self.syslog.bind(("127.0.0.1", 0))
        self.syslog.setblocking(False)
        self._lines: list[str] = []
        super().setUp()

    def changes(self) -> dict[str, str]:
        return super().changes() | {"/dev/log": f"127.0.0.1:{self.syslog.getsockname()[1]}"}

    def log_lines(self) -> list[str]:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._lines += self.syslog.recv(65536).decode().splitlines()
        return self._lines + self.proxy.log.read_text().splitlines()

    def start_with(self, secret: str | None) -> None:
        """Start the proxy again, with another secret; with none at all for None."""
        # A master that is told to stop before it is ready leaves its worker behind for a moment.
        log = self.proxy.log
        eventually(lambda: b"Loading success." in log.read_bytes(), PATIENCE, "the master")
        self.proxy.stop()
        eventually(lambda: not listens(self.port), PATIENCE, "nobody listens")
        os.environ[VARIABLE] = secret or ""
        if secret is None:
            del os.environ[VARIABLE]
        try:
            self.proxy.start()
        finally:
            os.environ[VARIABLE] = SECRET

    def test_dots(self) -> None:
        """A path with dots that mean a place elsewhere is refused, and other dots are not."""
        alice = bearer(token("alice"))
        for path in ("//me/x", "/me//x", "/me/./x", "/me/../x", "/me/x/.", "/me/x/..", "/news/.."):
            for spelling in (path, path.replace(".", "%2e"), "/" + quote(path[1:], safe="")):
                self.assertEqual(self.handshake(spelling, alice), 400, spelling)
        for path in ("/me/...", "/me/.x", "/me/x.", "/me/x..y/..x/z"):
            self.assertEqual(self.handshake(path, alice), 101, path)

    @skipUnless(CURL, "no curl: apt install curl")
    def test_refused_over_http2(self) -> None:
        """A refusal arrives over HTTP/2 as well; HAProxy has got the message before it refuses."""
        url = f"https://localhost:{self.port}/me/inbox"
        body = self.directory / "body"
        for size in (1, 10_000):
            body.write_bytes(b"x" * size)
            command = [CURL, "--silent", "--cacert", str(self.certificate), "--output", "/dev/null"]
            command += ["--write-out", "%{http_version} %{http_code}", "--data-binary", f"@{body}"]
            for _ in range(20):
                run = subprocess.run([*command, url], capture_output=True, check=False)
                self.assertEqual(run.stdout, b"2 401")

    def test_no_secret(self) -> None:
        """Without a secret it does not start."""
        with self.assertRaises(AssertionError) as caught:
            self.start_with(None)
        self.assertIn(f"{VARIABLE} is not set", str(caught.exception))

    def test_short_secrets(self) -> None:
        """With a secret that is empty or short nobody gets in, and application servers publish."""
        claims = {"sub": "alice", "exp": int(time.time()) + 300}
        for secret in ("", " ", "x", SECRET[:31]):
            self.start_with(secret)
            for key in (secret, "", SECRET):
                self.assertEqual(self.handshake("/me/a", bearer(signed(HS256, claims, key))), 500)
                self.assertEqual(self.post("/me/a", bearer(signed(HS256, claims, key))), 500)
            self.assertEqual(self.publish("/user/alice/a"), 0)

    def test_any_secret(self) -> None:
        """A secret may have any characters."""
        claims = {"sub": "alice", "exp": int(time.time()) + 300}
        secret = "\"quotes' $HOME ${HOME} \\ , ) # %[date] caf\u00e9"
        self.start_with(secret)
        self.assertEqual(self.handshake("/me/a", bearer(signed(HS256, claims, secret))), 101)
        self.assertEqual(self.handshake("/me/a", bearer(signed(HS256, claims))), 401)
