"""A headless Chromium for a test, driven by Playwright's sync API."""

from __future__ import annotations

import base64
import hashlib
import shutil
from pathlib import Path
from unittest import SkipTest

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, sync_playwright
from twisted.trial.unittest import SynchronousTestCase

# Playwright adds others, so that nothing is fetched, reported or updated.
FLAGS = ("--disable-gpu", "--disable-quic")


def start(test: SynchronousTestCase, trusted: Path | None = None) -> Browser:
    """Start the Chromium that is installed on the machine; it ends with the test.

    While it runs, this thread has Playwright's asyncio loop: run no other one in it.

    Args:
        test: whose browser it is.
        trusted: a file with a certificate that is trusted, for whatever host shows it.
    """
    path = shutil.which("chromium")
    if path is None:
        raise SkipTest("no chromium: apt install chromium")
    playwright = sync_playwright().start()
    test.addCleanup(playwright.stop)
    flags = [*FLAGS, f"--ignore-certificate-errors-spki-list={_key(trusted)}"] if trusted else FLAGS
    browser = playwright.chromium.launch(executable_path=path, args=flags)
    test.addCleanup(browser.close)
    return browser


def _key(certificate: Path) -> str:
    """The key of a certificate, in Chromium's terms.

    Unlike Playwright's ``ignore_https_errors`` it makes the certificate a good one: with that,
    Chromium opens every connection of a websocket twice, the first time to find the error.
    """
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(info).digest()).decode()
