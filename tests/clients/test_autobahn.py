"""The client of Autobahn, on Twisted."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.cases import FragmentCases, PingCases
from tests.clients.lines import AUTOBAHN, LineCases


class AutobahnTests(LineCases, FragmentCases, PingCases, SynchronousTestCase):
    """The cases with Autobahn, in a process that has a running reactor."""

    command = AUTOBAHN
