"""The POST that everyone sends, and what is none."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pinghub.limits import Limits
from pinghub.plain_posts import plain_post

LIMITS = Limits(head_line=400, head_size=300, head_fields=4, max_message=9)
LINE = b"POST /a HTTP/1.1\r\n"
HOST = b"Host: h\r\n"
HELLO = b"Content-Length: 5\r\n\r\nhello"


def read(data: bytes, limits: Limits = LIMITS) -> tuple[bytes, bytes] | None:
    """Target and body of a plain POST."""
    post = plain_post(data, 0, limits)
    return post and post[:2]


class PlainPostTests(SynchronousTestCase):
    """What is plain, and what is left to the parser."""

    def test_plain(self) -> None:
        """A POST with one Host and one Content-Length, in any order and case."""
        for fields in (
            b"Host: h\r\nContent-Length: 5\r\n",
            b"content-length:5\r\nHOST:\t h:81 \t\r\n",
            b"Host: h\r\nX: \t\r\nContent-Length: 005 \r\nY:z\r\n",
            b"Host: h\r\nContent-Length: 5\r\nConnection: Keep-Alive \r\n",
            b'Host: h\r\nContent-Length: 5\r\nContent-Type: a=b;\t"c"\r\n',
        ):
            with self.subTest(fields):
                self.assertEqual(read(LINE + fields + b"\r\nhello"), (b"/a", b"hello"))

    def test_targets(self) -> None:
        """The target is any path, with its query."""
        for target in (b"/", b"//a", b"/a?b=/c#d", b"/%ff", b"/a;b~!"):
            self.assertEqual(
                read(b"POST " + target + b" HTTP/1.1\r\n" + HOST + HELLO), (target, b"hello")
            )

    def test_empty(self) -> None:
        """A body may be empty, if it says so."""
        self.assertEqual(read(LINE + HOST + b"Content-Length: 0\r\n\r\n"), (b"/a", b""))

    def test_where_it_ends(self) -> None:
        """Requests that follow each other are read one by one."""
        data = LINE + HOST + HELLO
        second = plain_post(data * 2 + b"more", len(data), LIMITS)
        self.assertEqual(second, (b"/a", b"hello", 2 * len(data)))
        self.assertIsNone(plain_post(data * 2 + b"more", 2 * len(data), LIMITS))

    def test_incomplete(self) -> None:
        """A POST of which something is missing is not plain."""
        data = LINE + HOST + HELLO
        for size in range(len(data)):
            self.assertIsNone(read(data[:size]), data[:size])

    def test_other_request_lines(self) -> None:
        """Other methods, versions, targets and spaces are not plain."""
        for line in (
            b"GET /a HTTP/1.1",
            b"PUT /a HTTP/1.1",
            b"post /a HTTP/1.1",
            b"POSTS /a HTTP/1.1",
            b"POST /a HTTP/1.0",
            b"POST /a HTTP/1.10",
            b"POST /a http/1.1",
            b"POST /a",
            b"POST a HTTP/1.1",
            b"POST * HTTP/1.1",
            b"POST  HTTP/1.1",
            b"POST http://h/a HTTP/1.1",
            b"POST  /a HTTP/1.1",
            b"POST /a  HTTP/1.1",
            b"POST /a HTTP/1.1 ",
            b"POST /a b HTTP/1.1",
            b"POST /a\t HTTP/1.1",
            b"POST /a\x7f HTTP/1.1",
            b"POST /caf\xc3\xa9 HTTP/1.1",
            b"\r\nPOST /a HTTP/1.1",
        ):
            self.assertIsNone(read(line + b"\r\n" + HOST + HELLO), line)

    def test_deciding_fields(self) -> None:
        """Fields that decide about the body, the connection or the right are not plain."""
        for field in (
            b"Content-Length: 5",
            b"content-length: 5",
            b"Host: h",
            b"hOST:h",
            b"Origin: http://h",
            b"ORIGIN:",
            b"Expect: 100-continue",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: identity",
            b"Upgrade: websocket",
            b"Connection: close",
            b"Connection:",
            b"Connection: keep-alive, close",
            b"Connection: keep-alive\r\nConnection: keep-alive",
        ):
            for data in (
                LINE + field + b"\r\n" + HOST + HELLO,
                LINE + HOST + field + b"\r\n" + HELLO,
            ):
                self.assertIsNone(read(data), field)

    def test_missing_fields(self) -> None:
        """Without a Host or a Content-Length it is not plain."""
        self.assertIsNone(read(LINE + HELLO))
        self.assertIsNone(read(LINE + HOST + b"\r\nhello"))
        self.assertIsNone(read(LINE + HOST + b"X: y\r\n\r\nhello"))
        self.assertIsNone(read(LINE + b"\r\nhello"))

    def test_lengths(self) -> None:
        """A Content-Length is a few digits."""
        for length in (b"", b"x", b"+5", b"-5", b"5,5", b"5 5", b"0x5", b"5_5", b"0000005"):
            self.assertIsNone(
                read(LINE + HOST + b"Content-Length: " + length + b"\r\n\r\nhello"), length
            )

    def test_odd_bytes(self) -> None:
        """Field lines with anything but printable ASCII, or folded, are not plain."""
        for field in (
            b"no colon",
            b": no name",
            b"X : y",
            b"X Y: z",
            b"X\x00: y",
            b"X\xe9: y",
            b"X: \x00",
            b"X: a\nb",
            b"X: a\rb",
            b"X: \x7f",
            b"X: \x85",
            b"X: caf\xc3\xa9",
            b"X: a\r\n b",
            b"X: a\r\n\tb",
            b" X: a",
        ):
            for data in (
                LINE + field + b"\r\n" + HOST + HELLO,
                LINE + HOST + field + b"\r\n" + HELLO,
            ):
                self.assertIsNone(read(data), field)

    def test_line_ends(self) -> None:
        """Lines end with CR and LF."""
        data = LINE + HOST + HELLO
        for other in (b"\n", b"\r", b"\r\r\n", b"\n\r"):
            self.assertIsNone(read(data.replace(b"\r\n", other)))

    def test_fields(self) -> None:
        """At the bound on header fields a POST is plain, above it it is not."""
        for count, plain in ((2, True), (3, False)):
            data = LINE + HOST + b"X: y\r\n" * count + HELLO
            self.assertEqual(read(data) is not None, plain)

    def test_head(self) -> None:
        """At the bounds on heads a POST is plain, above them it is not."""
        head = LINE + HOST + b"Content-Length: 5\r\nX: "
        for limits in (LIMITS, Limits(head_line=300, head_size=400)):
            for size, plain in ((300, True), (301, False)):
                data = head.ljust(size - 4, b"x") + b"\r\n\r\nhello"
                self.assertEqual(read(data, limits) is not None, plain)
                data = LINE + HOST + HELLO + data
                post = plain_post(data, len(LINE + HOST + HELLO), limits)
                self.assertEqual(post is not None, plain)

    def test_body(self) -> None:
        """At the bound on messages a POST is plain, above it it is not."""
        for size, plain in ((9, True), (10, False)):
            data = LINE + HOST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size
            self.assertEqual(read(data) is not None, plain)
