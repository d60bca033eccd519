"""Makes ``twistd pinghub`` and ``twist pinghub`` known to Twisted."""

from twisted.application.service import ServiceMaker

pinghub = ServiceMaker(
    "Pinghub",
    "pinghub.tap",
    "A publish/subscribe message bus for websocket clients.",
    "pinghub",
)
