"""Every option that Autobahn has for a connection, settled once; and the state at rest.

Autobahn copies its options, about forty, to each connection, and formats them for a debug log
that is off. With an empty ``CONFIG_ATTRS`` it copies nothing, and reads these class attributes.
``tests/test_autobahn_options.py`` notices when a release has one more.
"""

from __future__ import annotations


class SettledOptions:
    """The options; mixed into the protocol, in front of Autobahn's class."""

    CONFIG_ATTRS = ()
    logOctets = False
    logFrames = False
    trackTimings = False
    utf8validateIncoming = True
    applyMask = True
    maxFramePayloadSize = 0
    autoFragmentSize = 0
    # Stops the parser at the first fault, which bounds what a hostile peer can make it collect.
    failByDrop = True
    echoCloseCodeReason = True
    # Deadlines are kept by the sweep of the manager, sizes by the protocol.
    openHandshakeTimeout = 0
    closeHandshakeTimeout = 0
    tcpNoDelay = True
    autoPingInterval = 0
    autoPingTimeout = 0
    autoPingSize = 12
    autoPingRestartOnAnyTraffic = True
    versions = (13,)
    webStatus = False
    requireMaskedClientFrames = True
    maskServerFrames = False
    serveFlashSocketPolicy = False
    flashSocketPolicy = None
    allowedOrigins = ("*",)
    allowedOriginsPatterns = ()
    allowNullOrigin = True
    maxConnections = 0
    trustXForwardedFor = 0

    # The state of a connection whose frames have all been plain, which is most of them. The
    # rest of Autobahn's state, ten times as large, is made when its parser is needed.
    data = b""
    inside_message = False
    current_frame: object = None
    websocket_version = 13
    failedByMe = False
    closeHandshakeTimeoutCall = None

    @staticmethod
    def perMessageCompressionAccept(offers: object) -> None:
        """Decline compression: a frame is made once for all subscribers."""
