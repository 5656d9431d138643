"""Every metric: its name, its kind, its labels, what it says. Names and units follow Prometheus' own rules.

Cardinality is bounded by what is configured: connectors, feeds, mapped tables, and closed sets of words.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

CONNECTOR: Final = "connector"
FEED: Final = "feed"
TABLE: Final = "table"
OPERATION: Final = "operation"
STATE: Final = "state"
KIND: Final = "kind"
VERSION: Final = "version"
CHECK: Final = "check"
SEVERITY: Final = "severity"
DATABASE: Final = "database"


class MetricKind(Enum):
    """What a Prometheus sample of this name means."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family.

    Attributes:
        name: without `_total` (a counter's samples get it).
        kind: counter, gauge or histogram.
        labels: label keys, in order.
        help: one sentence.

    """

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    help: str


_FEED_LABELS: Final = (CONNECTOR, FEED)
_GAUGE: Final = MetricKind.GAUGE
_COUNTER: Final = MetricKind.COUNTER
_HISTOGRAM: Final = MetricKind.HISTOGRAM

BUILD: Final = Metric("replicator_build_info", _GAUGE, (VERSION,), "Always 1; the version is a label.")
CONNECTOR_STATE: Final = Metric(
    "replicator_state", _GAUGE, (CONNECTOR, STATE), "1 for the state that the connector is in, 0 for the others."
)
READY: Final = Metric("replicator_ready", _GAUGE, (CONNECTOR,), "1 unless the connector failed or was superseded.")
END_TO_END: Final = Metric(
    "replicator_end_to_end_seconds", _GAUGE, _FEED_LABELS, "Source commit to target commit; NaN when unknown."
)
FRESHNESS: Final = Metric(
    "replicator_freshness_seconds",
    _GAUGE,
    _FEED_LABELS,
    "Age of the newest source moment that is proven to be applied; NaN when unknown.",
)
BACKLOG: Final = Metric(
    "replicator_backlog_offsets",
    _GAUGE,
    _FEED_LABELS,
    "Kafka records of this process's partitions that are not yet applied; NaN when unknown or no Kafka.",
)
RETAINED_WAL: Final = Metric(
    "replicator_retained_wal_bytes", _GAUGE, _FEED_LABELS, "WAL that the slot holds back; NaN when unknown."
)
CLOCK_OFFSET: Final = Metric(
    "replicator_clock_offset_seconds", _GAUGE, _FEED_LABELS, "Source's clock minus ours; NaN before it was measured."
)
LAST_APPLIED: Final = Metric(
    "replicator_last_applied_timestamp_seconds",
    _GAUGE,
    _FEED_LABELS,
    "When the newest applied transaction was committed on the target; NaN before the first.",
)
APPLIED_TRANSACTIONS: Final = Metric(
    "replicator_applied_transactions", _COUNTER, _FEED_LABELS, "Source transactions applied."
)
APPLIED_ROWS: Final = Metric(
    "replicator_applied_rows",
    _COUNTER,
    (*_FEED_LABELS, TABLE, OPERATION),
    "Rows written to the target, by target table and operation.",
)
PRODUCED_RECORDS: Final = Metric(
    "replicator_produced_records", _COUNTER, _FEED_LABELS, "Records that a capture has committed in Kafka."
)
PRODUCED_BYTES: Final = Metric(
    "replicator_produced_bytes", _COUNTER, _FEED_LABELS, "Bytes of their keys and values, before compression."
)
BATCH_ROWS: Final = Metric("replicator_batch_rows", _HISTOGRAM, _FEED_LABELS, "Rows written by one target transaction.")
APPLY_SECONDS: Final = Metric(
    "replicator_apply_seconds", _HISTOGRAM, _FEED_LABELS, "First statement to committed, of one target transaction."
)
COMMIT_LAG: Final = Metric(
    "replicator_commit_lag_seconds", _HISTOGRAM, _FEED_LABELS, "Source commit to target commit, of each transaction."
)
RETRIES: Final = Metric(
    "replicator_retries", _COUNTER, (*_FEED_LABELS, KIND), "Work tried again, by the kind of the error before."
)
DEAD_LETTERS: Final = Metric(
    "replicator_dead_letters", _GAUGE, _FEED_LABELS, "Changes in the dead letter queue; NaN when unknown."
)
STALE: Final = Metric(
    "replicator_stale_mappings",
    _GAUGE,
    _FEED_LABELS,
    "Mappings whose rows may have changed without an event: they need a resync.",
)
CHANGED: Final = Metric(
    "replicator_changed_transforms",
    _GAUGE,
    _FEED_LABELS,
    "Mappings that have rows by a transform from before it changed: they need a rederive.",
)
RESTARTS: Final = Metric(
    "replicator_restarts", _COUNTER, (CONNECTOR,), "Lifecycles begun again after an error that may pass."
)
BACKFILL_ROWS: Final = Metric(
    "replicator_backfill_copied_rows",
    _GAUGE,
    (CONNECTOR, TABLE),
    "Rows copied, by source table, earlier runs included.",
)
BACKFILL_ESTIMATE: Final = Metric(
    "replicator_backfill_expected_rows",
    _GAUGE,
    (CONNECTOR, TABLE),
    "Rows to copy, by the statistics; NaN when unknown.",
)
BACKFILL_CHUNKS: Final = Metric(
    "replicator_backfill_copied_chunks", _GAUGE, (CONNECTOR, TABLE), "Chunks copied, by source table."
)
BACKFILL_ETA: Final = Metric(
    "replicator_backfill_remaining_seconds",
    _GAUGE,
    (CONNECTOR, TABLE),
    "Time left at the present rate; NaN when unknown.",
)
DIVERGENCES: Final = Metric(
    "replicator_open_divergences",
    _GAUGE,
    (*_FEED_LABELS, TABLE, KIND),
    "Rows that are proven wrong and not seen equal since, by target table; NaN when unknown.",
)
FINDINGS: Final = Metric(
    "replicator_findings",
    _COUNTER,
    (*_FEED_LABELS, TABLE, KIND),
    "Rows that were proven wrong since this process began, by whichever process.",
)
UNSETTLED: Final = Metric(
    "replicator_unsettled_rows",
    _GAUGE,
    (*_FEED_LABELS, TABLE),
    "Rows that the newest verification could not decide; NaN before the first.",
)
VERIFIED_ROWS: Final = Metric(
    "replicator_verified_rows", _COUNTER, (*_FEED_LABELS, TABLE), "Rows compared by this process, by target table."
)
VERIFICATIONS: Final = Metric(
    "replicator_verifications",
    _COUNTER,
    _FEED_LABELS,
    "Verifications of everything that ended since this process began, by whichever process.",
)
VERIFIED_AT: Final = Metric(
    "replicator_last_verification_timestamp_seconds",
    _GAUGE,
    _FEED_LABELS,
    "When the newest verification of everything ended; NaN before the first.",
)
VERIFIED_FOR: Final = Metric(
    "replicator_last_verification_seconds", _GAUGE, _FEED_LABELS, "How long it took; NaN before the first."
)
VERIFY_LIMIT: Final = Metric(
    "replicator_verify_limit_rows_per_second",
    _GAUGE,
    _FEED_LABELS,
    "Rows a second that continuous verification may read now; NaN without a limit.",
)
VERIFY_BRAKED: Final = Metric(
    "replicator_verify_braked",
    _GAUGE,
    _FEED_LABELS,
    "1 while continuous verification reads more slowly than it may, because a database or the feed is slow.",
)
VERIFY_SLOWNESS: Final = Metric(
    "replicator_verify_slowness_ratio",
    _GAUGE,
    (*_FEED_LABELS, DATABASE),
    "How many times as long as usual a database takes to answer verification; NaN when unknown.",
)
CHECK_OK: Final = Metric(
    "replicator_check_ok",
    _GAUGE,
    (*_FEED_LABELS, CHECK, SEVERITY),
    "1 where the check's newest result is good, 0 where it failed; NaN undecided, or never run.",
)
CERTIFICATE: Final = Metric(
    "replicator_certificate_valid",
    _GAUGE,
    _FEED_LABELS,
    "1 while there is a proof that both databases agree, and nothing has made it void; NaN when unknown.",
)

ALL: Final = (
    BUILD,
    CONNECTOR_STATE,
    READY,
    END_TO_END,
    FRESHNESS,
    BACKLOG,
    RETAINED_WAL,
    CLOCK_OFFSET,
    LAST_APPLIED,
    APPLIED_TRANSACTIONS,
    APPLIED_ROWS,
    PRODUCED_RECORDS,
    PRODUCED_BYTES,
    BATCH_ROWS,
    APPLY_SECONDS,
    COMMIT_LAG,
    RETRIES,
    DEAD_LETTERS,
    STALE,
    CHANGED,
    RESTARTS,
    BACKFILL_ROWS,
    BACKFILL_ESTIMATE,
    BACKFILL_CHUNKS,
    BACKFILL_ETA,
    DIVERGENCES,
    FINDINGS,
    UNSETTLED,
    VERIFIED_ROWS,
    VERIFICATIONS,
    VERIFIED_AT,
    VERIFIED_FOR,
    VERIFY_LIMIT,
    VERIFY_BRAKED,
    VERIFY_SLOWNESS,
    CHECK_OK,
    CERTIFICATE,
)
