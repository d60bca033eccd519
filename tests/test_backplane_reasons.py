"""Why a connection failed, in one line for people."""

from __future__ import annotations

from OpenSSL import SSL
from service_identity import VerificationError
from service_identity.exceptions import DNSMismatch, IPAddressMismatch
from service_identity.hazmat import DNS_ID, IPAddress_ID
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pinghub.backplane.reasons import reason_of


class ReasonTests(SynchronousTestCase):
    """What is made of an exception."""

    def assert_reasons(self, cases: dict[str, BaseException]) -> None:
        """Each exception is told like this."""
        for expected, error in cases.items():
            self.assertEqual(reason_of(Failure(error)), expected)

    def test_messages(self) -> None:
        """The message in one line, without a period at its end."""
        self.assert_reasons(
            {
                "Connection was closed cleanly": ConnectionDone(),
                "Connection was refused by other side: 111: no": ConnectionRefusedError(111, "no"),
                "NOAUTH Authentication required": ValueError("NOAUTH Authentication required."),
                "one two": ValueError(" one\r\n  two\n"),
                "wait": ValueError("wait..."),
            }
        )

    def test_never_empty(self) -> None:
        """Who has no message is told by its name."""
        self.assert_reasons({"CancelledError": CancelledError(), "ValueError": ValueError(" . ")})

    def test_tls(self) -> None:
        """What OpenSSL says, each thing once, without its tuples."""
        failed = ("SSL routines", "", "certificate verify failed")
        self.assert_reasons(
            {
                "TLS: certificate verify failed": SSL.Error([failed]),
                "TLS: certificate verify failed, bad": SSL.Error([failed, failed, ("", "", "bad")]),
                "TLS: Unexpected EOF": SSL.SysCallError(-1, "Unexpected EOF"),
                "TLS: ZeroReturnError": SSL.ZeroReturnError(),
                "TLS: Error": SSL.Error([("", "", "")]),
            }
        )

    def test_another_host(self) -> None:
        """A certificate for somebody else: for whom it should be."""
        host = DNSMismatch(DNS_ID("redis.example.com"))
        address = IPAddressMismatch(IPAddress_ID("10.0.0.1"))
        self.assert_reasons(
            {
                "TLS: the certificate is not for redis.example.com": VerificationError([host]),
                "TLS: the certificate is not for 10.0.0.1": VerificationError([address]),
            }
        )
