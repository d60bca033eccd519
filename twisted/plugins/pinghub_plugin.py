"""Makes ``twistd pinghub``, ``twist pinghub`` and ``--reactor=pinghub`` known to Twisted."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

pinghub = ServiceMaker(
    "Pinghub",
    "pinghub.tap",
    "A publish/subscribe message bus for websocket clients.",
    "pinghub",
)

reactor = Reactor("pinghub", "pinghub.reactor", "epoll(7), a little faster for Pinghub.")
