"""What Prometheus reads: the numbers of a manager, in the exposition format.

Nothing is prepared for it: the numbers are there, and become text when somebody asks. All labels
have a fixed set of values, and each is there from the beginning, with 0; no channel, address or
anything else of a peer's is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from pinghub import __version__
from pinghub.backplane import Backplane, InProcess
from pinghub.channels import ChannelManager
from pinghub.errors import PinghubError, Refusal
from pinghub.frames import CloseCode
from pinghub.stats import SECONDS, CloseReason, Histogram

_BOUNDS = (*(str(bound) for bound in SECONDS), "+Inf")


def refusal_labels(refusal: type[PinghubError] = Refusal) -> list[str]:
    """What refusals can be counted as: the labels of all kinds of them."""
    labels = []
    for kind in refusal.__subclasses__():
        assert issubclass(kind, Refusal)
        labels += [kind.label, *refusal_labels(kind)]
    return sorted(labels)


class ManagerCollector(Collector):
    """The numbers of one manager.

    Args:
        manager: the channels. What ``ChannelManager.measure`` measures is measured from now on.
        backplane: what connects them to those of other servers.
    """

    def __init__(self, manager: ChannelManager, backplane: Backplane) -> None:
        self._manager = manager
        self._backplane = backplane
        self._timings = manager.measure()

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry would otherwise collect in order to learn the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All numbers, as they are now."""
        yield InfoMetricFamily("pinghub", "The server.", {"version": __version__})
        yield from self._gauges()
        yield from self._messages()
        yield from self._ends()
        yield from self._between_servers()
        yield from self._durations()

    def _gauges(self) -> Iterator[Metric]:
        manager = self._manager
        connections = manager.connections
        yield _labelled(
            GaugeMetricFamily("pinghub_connections", "Open connections.", labels=["protocol"]),
            {"websocket": len(connections.subscribers), "http": len(connections.requesters)},
        )
        for name, text, value in (
            ("connections_limit", "Connections that may be open.", connections.limit),
            ("channels", "Channels that somebody listens to.", len(manager)),
            ("backlog_bytes", "Bytes that wait for slow subscribers.", manager.backlog.size),
            ("backlog_subscribers", "Subscribers that bytes wait for.", len(manager.backlog)),
            ("backlog_limit_bytes", "Bytes that may wait.", manager.limits.max_total_backlog),
            ("draining", "1 from the moment it is told to stop.", int(connections.leaving)),
        ):
            yield GaugeMetricFamily(f"pinghub_{name}", text, value)

    def _messages(self) -> Iterator[Metric]:
        stats = self._manager.stats
        yield _labelled(
            CounterMetricFamily("pinghub_messages", "Messages published.", labels=["source"]),
            {"websocket": stats.sent, "post": stats.posted, "program": stats.programmed},
        )
        for name, text, value in (
            ("messages_dropped", "Messages to channels without subscribers.", stats.dropped),
            ("message_bytes", "Size of the messages published.", stats.received_bytes),
            ("deliveries", "Messages handed to a subscriber.", stats.deliveries),
            ("delivery_bytes", "Size of the messages handed out.", stats.delivered_bytes),
            ("subscriptions", "Websockets opened.", stats.subscriptions),
        ):
            yield CounterMetricFamily(f"pinghub_{name}", text, value)

    def _ends(self) -> Iterator[Metric]:
        stats = self._manager.stats
        yield _labelled(
            CounterMetricFamily("pinghub_evictions", "Subscribers given up.", labels=["reason"]),
            {reason.value: stats.evictions[reason] for reason in CloseReason},
        )
        yield _labelled(
            CounterMetricFamily("pinghub_refusals", "Requests refused.", labels=["reason"]),
            {label: stats.refusals[label] for label in refusal_labels()},
        )
        yield _labelled(
            CounterMetricFamily(
                "pinghub_failures", "Websockets failed for what they sent.", labels=["code"]
            ),
            {str(code.value): stats.failures[code] for code in CloseCode},
        )

    def _between_servers(self) -> Iterator[Metric]:
        state, stats = self._backplane.state(), self._manager.stats
        for name, text, value in (
            ("instances", "Instances that the backplane has.", state.instances),
            ("instances_up", "Instances of the backplane that work.", state.up),
            ("pending_bytes", "Bytes that the backplane has not taken yet.", state.pending),
        ):
            yield GaugeMetricFamily(f"pinghub_backplane_{name}", text, value)
        for name, text, value in (
            ("messages", "Messages that came from the backplane.", stats.relayed),
            ("foreign", "What came from the backplane and is no message.", stats.foreign),
            ("gaps", "How often messages may have been missed.", stats.gaps),
        ):
            yield CounterMetricFamily(f"pinghub_backplane_{name}", text, value)

    def _durations(self) -> Iterator[Metric]:
        timings = self._timings
        for name, text, histogram in (
            ("fan_out", "Time that a turn spends on handing out.", timings.fan_out),
            ("publish_to_write", "Time from a message to its last write.", timings.latency),
            ("reactor_lag", "How late the reactor is.", timings.lag),
        ):
            yield HistogramMetricFamily(
                f"pinghub_{name}_seconds", text, _cumulative(histogram), histogram.sum
            )


def _labelled(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, int]) -> Metric:
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    """The buckets as Prometheus has them: each holds those below it too."""
    total, buckets = 0, []
    for bound, count in zip(_BOUNDS, histogram.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


class Metrics:
    """The metrics of a process with one manager.

    The Twisted resource of prometheus_client is not used: it collects in a thread, while the
    reactor changes what is collected.

    Args:
        manager: the channels.
        backplane: what connects them to those of other servers, if anything does.
    """

    def __init__(self, manager: ChannelManager, backplane: Backplane | None = None) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(ManagerCollector(manager, backplane or InProcess(manager)))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """All of them, in a form that the client takes.

        Args:
            accept: its header field Accept.

        Returns:
            The body, and its content type.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
