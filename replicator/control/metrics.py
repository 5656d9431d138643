"""`/metrics`: the status as Prometheus samples, read at each scrape. The only part that imports prometheus_client."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from replicator.errors import ErrorKind
from replicator.telemetry import ConnectorStatus, FeedStatus, Histogram, State, lag_of, names

if TYPE_CHECKING:
    from collections.abc import Callable

RETRIED_KINDS: Final = tuple(str(kind) for kind in ErrorKind)

Number = float | int | None


class StatusCollector(Collector):
    """Samples of all connectors that one server shows.

    Args:
        connectors: their status objects, which change under it.
        clock: seconds since the epoch.
        version: of this program.

    """

    def __init__(self, connectors: Sequence[ConnectorStatus], clock: Callable[[], float], version: str) -> None:
        self._connectors = connectors
        self._clock = clock
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """All families, one after the other."""
        now = self._clock()
        yield _gauge(names.BUILD, [((self._version,), 1)])
        yield from self._of_connectors()
        yield from self._of_feeds(now)
        yield from self._of_tables()
        yield from self._of_backfills(now)
        yield from self._of_verification()
        yield from self._of_checks()

    def _of_connectors(self) -> Iterator[Metric]:
        everyone = self._connectors
        yield _gauge(
            names.CONNECTOR_STATE,
            [((one.name, str(state)), int(one.state is state)) for one in everyone for state in State],
        )
        yield _gauge(names.READY, [((one.name,), int(one.ready)) for one in everyone])
        yield _counter(names.RESTARTS, [((one.name,), one.restarts) for one in everyone])

    def _of_feeds(self, now: float) -> Iterator[Metric]:
        feeds = [((feed.connector, feed.feed), feed) for one in self._connectors for feed in one.feeds]
        lags = [(labels, lag_of(feed, now)) for labels, feed in feeds]
        yield _gauge(names.END_TO_END, [(labels, lag.end_to_end_seconds) for labels, lag in lags])
        yield _gauge(names.FRESHNESS, [(labels, lag.freshness_seconds) for labels, lag in lags])
        yield _gauge(names.BACKLOG, [(labels, lag.backlog_offsets) for labels, lag in lags])
        yield _gauge(names.RETAINED_WAL, [(labels, lag.retained_wal_bytes) for labels, lag in lags])
        yield _gauge(names.CLOCK_OFFSET, [(labels, feed.clock_offset) for labels, feed in feeds])
        yield _gauge(names.LAST_APPLIED, [(labels, feed.applied_at) for labels, feed in feeds])
        yield _gauge(names.DEAD_LETTERS, [(labels, feed.dead_letters) for labels, feed in feeds])
        yield _gauge(names.STALE, [(labels, len(feed.stale)) for labels, feed in feeds])
        yield _gauge(names.CHANGED, [(labels, len(feed.transform_changed)) for labels, feed in feeds])
        yield _counter(names.APPLIED_TRANSACTIONS, [(labels, feed.transactions_applied) for labels, feed in feeds])
        yield _counter(names.PRODUCED_RECORDS, [(labels, feed.produced_records) for labels, feed in feeds])
        yield _counter(names.PRODUCED_BYTES, [(labels, feed.produced_bytes) for labels, feed in feeds])
        yield _counter(
            names.RETRIES,
            [((*labels, kind), feed.retries.get(kind, 0)) for labels, feed in feeds for kind in RETRIED_KINDS],
        )
        yield _histogram(names.BATCH_ROWS, [(labels, feed.batch_rows) for labels, feed in feeds])
        yield _histogram(names.APPLY_SECONDS, [(labels, feed.apply_seconds) for labels, feed in feeds])
        yield _histogram(names.COMMIT_LAG, [(labels, feed.commit_lag_seconds) for labels, feed in feeds])

    def _of_tables(self) -> Iterator[Metric]:
        yield _counter(
            names.APPLIED_ROWS,
            [
                ((feed.connector, feed.feed, table, operation), rows)
                for feed in self._feeds()
                for (table, operation), rows in feed.rows_applied.items()
            ],
        )

    def _of_backfills(self, now: float) -> Iterator[Metric]:
        tables = [((feed.connector, table), copy) for feed in self._feeds() for table, copy in feed.backfill.items()]
        yield _gauge(names.BACKFILL_ROWS, [(labels, copy.rows_done) for labels, copy in tables])
        yield _gauge(names.BACKFILL_ESTIMATE, [(labels, copy.rows_estimate) for labels, copy in tables])
        yield _gauge(names.BACKFILL_CHUNKS, [(labels, copy.chunks_done) for labels, copy in tables])
        yield _gauge(names.BACKFILL_ETA, [(labels, copy.eta_seconds(now)) for labels, copy in tables])

    def _of_verification(self) -> Iterator[Metric]:
        feeds = [((feed.connector, feed.feed), feed.verify) for feed in self._feeds()]
        kinds = [((*labels, table, kind), one, (table, kind)) for labels, one in feeds for table, kind in one.found]
        tables = [((*labels, table), one, table) for labels, one in feeds for table in one.rows]
        yield _gauge(
            names.DIVERGENCES,
            [(labels, None if one.open is None else one.open.get(which, 0)) for labels, one, which in kinds],
        )
        yield _counter(names.FINDINGS, [(labels, one.found[which]) for labels, one, which in kinds])
        yield _gauge(
            names.UNSETTLED,
            [(labels, None if one.unsettled is None else one.unsettled.get(table, 0)) for labels, one, table in tables],
        )
        yield _counter(names.VERIFIED_ROWS, [(labels, one.rows[table]) for labels, one, table in tables])
        yield _counter(names.VERIFICATIONS, [(labels, one.passes) for labels, one in feeds])
        yield _gauge(names.VERIFIED_AT, [(labels, one.pass_at) for labels, one in feeds])
        yield _gauge(names.VERIFIED_FOR, [(labels, one.pass_seconds) for labels, one in feeds])
        yield _gauge(names.VERIFY_LIMIT, [(labels, one.limit) for labels, one in feeds])
        yield _gauge(names.VERIFY_BRAKED, [(labels, int(one.braked)) for labels, one in feeds])
        yield _gauge(
            names.VERIFY_SLOWNESS,
            [((*labels, side), ratio) for labels, one in feeds for side, ratio in one.latency.items()],
        )

    def _of_checks(self) -> Iterator[Metric]:
        feeds = [((feed.connector, feed.feed), feed.verify) for feed in self._feeds()]
        yield _gauge(
            names.CHECK_OK,
            [
                ((*labels, check.name, check.severity), None if check.ok is None else int(check.ok))
                for labels, one in feeds
                for check in one.checks.values()
            ],
        )
        yield _gauge(
            names.CERTIFICATE,
            [(labels, None if one.certificate is None else int(one.certificate.valid)) for labels, one in feeds],
        )

    def _feeds(self) -> Iterator[FeedStatus]:
        for one in self._connectors:
            yield from one.feeds


def build_registry(
    connectors: Sequence[ConnectorStatus], clock: Callable[[], float], version: str
) -> CollectorRegistry:
    """A registry of its own for these connectors, with the process' memory, CPU and garbage collection."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(connectors, clock, version))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _gauge(metric: names.Metric, samples: Iterable[tuple[Sequence[str], Number]]) -> Metric:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, math.nan if value is None else value)
    return family


def _counter(metric: names.Metric, samples: Iterable[tuple[Sequence[str], int]]) -> Metric:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _histogram(metric: names.Metric, samples: Iterable[tuple[Sequence[str], Histogram]]) -> Metric:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, histogram in samples:
        buckets = [(_bound(bound), float(count)) for bound, count in histogram.cumulative()]
        family.add_metric(labels, buckets, histogram.sum)
    return family


def _bound(bound: float) -> str:
    """A bucket's `le` label, as the exposition format spells it."""
    return "+Inf" if math.isinf(bound) else repr(float(bound))
