"""The status of a feed and of a connector: mutable, of one event loop, filled in by the engine and the daemon."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from replicator.telemetry.bus import Bus
from replicator.telemetry.histogram import Histogram
from replicator.telemetry.verify_status import VerifyStatus
from replicator.writes import WriteAction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from replicator.errors import ReplicatorError

SECONDS_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
ROWS_BOUNDS: Final = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
RATE_WINDOW_SECONDS: Final = 30.0
"""A rate is taken over this time: long enough to be steady, short enough to follow a change."""

OPERATIONS: Final = ("insert", "upsert", "update", "delete")
"""What a metric says about a written row. A statement's own action may be finer, see `WriteAction`."""
_OPERATION_OF: Final = {
    WriteAction.INSERT: "insert",
    WriteAction.APPEND: "insert",
    WriteAction.UPSERT: "upsert",
    WriteAction.MERGE: "upsert",
    WriteAction.UPDATE: "update",
    WriteAction.DELETE: "delete",
    WriteAction.PRUNE: "delete",
    WriteAction.REMOVE: "delete",
    WriteAction.CLEAR: "delete",
    WriteAction.TRUNCATE: "delete",
}


class State(StrEnum):
    """Where a connector stands. Those up to STREAMING are the workflow's and are kept in the upgraded database;
    the last three describe this process alone, and a restart begins again from what is kept.
    """

    PREPARING = "preparing"  # publication, slot and our schemas are being made; nothing is copied yet
    COPYING = "copying"  # the backfill runs; the slot holds back what happens meanwhile
    CATCHING_UP = "catching_up"  # the feed has not yet passed the last chunk's snapshot: both sides may still differ
    STREAMING = "streaming"  # the target equals f(source) as of the position
    FAILED = "failed"  # stopped at an error that a person decides; nothing is lost; the slot holds its position
    SUPERSEDED = "superseded"  # another process holds the epoch
    STOPPED = "stopped"  # ended on request, at a batch boundary

    @property
    def ended(self) -> bool:
        """Whether this process does nothing more for the connector."""
        return self in (State.FAILED, State.SUPERSEDED, State.STOPPED)


class BackfillState(StrEnum):
    """Where the copy of one table stands."""

    WAITING = "waiting"
    COPYING = "copying"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class Rate:
    """Growth per second of a running total, over the last `RATE_WINDOW_SECONDS`."""

    points: deque[tuple[float, int]] = field(default_factory=deque)

    def mark(self, now: float, total: int) -> None:
        """Note the total at a moment; moments nearer than a fiftieth of the window are merged."""
        points = self.points
        if len(points) > 1 and now - points[-2][0] < RATE_WINDOW_SECONDS / 50:
            points[-1] = (now, total)
            return
        points.append((now, total))
        while len(points) > 2 and now - points[1][0] >= RATE_WINDOW_SECONDS:
            points.popleft()

    def per_second(self, now: float) -> float | None:
        """None before there is anything to compare; falls to 0 when nothing comes any more."""
        if not self.points:
            return None
        since, base = self.points[0]
        newest = self.points[-1][1]
        if now - self.points[-1][0] > RATE_WINDOW_SECONDS:
            return 0.0
        return None if now <= since else (newest - base) / (now - since)


@dataclass(slots=True)
class TableBackfill:
    """The copy of one source table.

    Attributes:
        table: the source table's qualified name.
        rows_estimate: from the statistics; None unknown. Never below what has been copied.
        rows_done: rows read from the source, by chunks that have committed, earlier runs included.
        chunks_done: likewise.
        bytes_done: bytes of these rows, of this run.
        started_at, finished_at: of this run.

    """

    table: str
    rows_estimate: int | None = None
    rows_done: int = 0
    chunks_done: int = 0
    bytes_done: int = 0
    state: BackfillState = BackfillState.WAITING
    started_at: float | None = None
    finished_at: float | None = None
    rate: Rate = field(default_factory=Rate)

    def start(self, now: float) -> None:
        """The first chunk of this run begins; `rows_done` holds what earlier runs have copied."""
        self.state = BackfillState.COPYING
        self.started_at = now
        self.rate.mark(now, self.rows_done)

    def advance(self, now: float, rows: int, *, bytes_copied: int = 0) -> None:
        """One chunk has committed."""
        self.rows_done += rows
        self.chunks_done += 1
        self.bytes_done += bytes_copied
        if self.rows_estimate is not None:
            self.rows_estimate = max(self.rows_estimate, self.rows_done)
        self.rate.mark(now, self.rows_done)

    def finish(self, now: float) -> None:
        """All chunks have committed."""
        self.state = BackfillState.DONE
        self.finished_at = now
        self.rows_estimate = self.rows_done

    def eta_seconds(self, now: float) -> float | None:
        """Seconds until the estimate is reached at the present rate; 0 when done, None where it can't be told."""
        if self.state is BackfillState.DONE:
            return 0.0
        rate = self.rate.per_second(now)
        if not rate or self.rows_estimate is None:
            return None
        return (self.rows_estimate - self.rows_done) / rate


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error as status, metrics and logs show it: no row values, no secrets.

    Attributes:
        kind: `ErrorKind` value.
        message: what failed, with place and hint, in one paragraph.
        facts: the same as fields (`ReplicatorError.facts`).
        at: when it was seen.

    """

    kind: str
    message: str
    facts: Mapping[str, str]
    at: float

    @classmethod
    def of(cls, error: ReplicatorError, now: float) -> Trouble:
        """The trouble that this error is."""
        return cls(str(error.kind), str(error), error.facts(), now)


def _seconds() -> Histogram:
    return Histogram(SECONDS_BOUNDS)


def _rows() -> Histogram:
    return Histogram(ROWS_BOUNDS)


@dataclass(slots=True)
class FeedStatus:
    """One feed: the engine calls `applied`, `proven`, `pending`, `retried`; the rest is set where it is known.

    Attributes:
        connector: the connector's name.
        feed: `forward` or `reverse`.
        state: where it stands; set by `enter`.
        state_since: when that began.
        position: the checkpoint as text; of lane 0 where there are several (`lanes` has all).
        lanes: position as text by lane.
        epoch: the one under which this process writes.
        commit_time: source commit time of the newest applied transaction (source's clock).
        applied_at: when its target transaction, or a heartbeat's, had committed (our clock).
        end_to_end: seconds from source commit to then, clock offset taken out.
        proven_time: source time up to which everything is proven to be applied (source's clock).
        oldest_pending_commit_time: of the oldest transaction that is taken and not applied; None when there is none.
        clock_offset: source's clock minus ours, in seconds; None before it was measured.
        transactions_applied: source transactions since this process began.
        rows_applied: by (target table, one of `OPERATIONS`) since this process began; `declare` makes the label sets.
        produced_records, produced_bytes: of a capture: put into the log, and committed, since this process began.
        retries: by error kind since this process began.
        dead_letters: parked now; None before it was asked.
        retained_wal_bytes: WAL that the slot holds back.
        backlog_offsets: Kafka records of this process's partitions not yet applied; None for a slot.
        backfill: by source table name.
        stale: mappings that need a resync, because rows may have changed without an event; with the reason.
        transform_changed: mappings that have rows by a transform from before it changed; since when, by the target's
            clock: they need a rederive.
        trouble: the error that is being retried, or that stopped the feed; None when all is well.
        retry_at: when the next attempt begins; None when none is waited for.
        verify: what is known of verification.

    """

    connector: str
    feed: str = "forward"
    state: State = State.PREPARING
    state_since: float | None = None
    position: str | None = None
    lanes: dict[int, str] = field(default_factory=dict)
    epoch: int | None = None
    commit_time: float | None = None
    applied_at: float | None = None
    end_to_end: float | None = None
    proven_time: float | None = None
    oldest_pending_commit_time: float | None = None
    clock_offset: float | None = None
    transactions_applied: int = 0
    rows_applied: Counter[tuple[str, str]] = field(default_factory=Counter)
    row_rate: Rate = field(default_factory=Rate)
    transaction_rate: Rate = field(default_factory=Rate)
    produced_records: int = 0
    produced_bytes: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    dead_letters: int | None = None
    retained_wal_bytes: int | None = None
    backlog_offsets: int | None = None
    backfill: dict[str, TableBackfill] = field(default_factory=dict)
    stale: dict[str, str] = field(default_factory=dict)
    transform_changed: dict[str, float] = field(default_factory=dict)
    trouble: Trouble | None = None
    retry_at: float | None = None
    batch_rows: Histogram = field(default_factory=_rows)
    apply_seconds: Histogram = field(default_factory=_seconds)
    commit_lag_seconds: Histogram = field(default_factory=_seconds)
    verify: VerifyStatus = field(default_factory=VerifyStatus)

    def declare(self, tables: Iterable[str]) -> None:
        """Make the label sets of target tables at once, so that a rate over them has a first value."""
        names = list(tables)
        self.verify.declare(names)
        for table in names:
            for operation in OPERATIONS:
                self.rows_applied.setdefault((table, operation), 0)

    def enter(self, state: State, now: float) -> None:
        """Change the state; the same one again changes nothing."""
        if state is not self.state or self.state_since is None:
            self.state = state
            self.state_since = now

    def applied(
        self,
        now: float,
        *,
        position: str,
        rows: Mapping[tuple[str, str], int],
        transactions: int,
        commit_time: float | None,
        seconds: float,
        lane: int = 0,
        first_commit_time: float | None = None,
    ) -> None:
        """One target transaction has committed.

        Args:
            now: after the commit was acknowledged.
            position: the lane's checkpoint, as text.
            rows: affected rows by (target table, `WriteAction` value).
            transactions: source transactions that ended in it.
            commit_time: source commit time of the newest of them; None where there was none (idle progress).
            seconds: from its first statement to the commit's answer.
            lane: whose.
            first_commit_time: source commit time of the oldest of them, for the histogram.

        """
        self.moved(position, lane)
        self.trouble = None
        self.retry_at = None
        total = sum(rows.values())
        for (table, action), affected in rows.items():
            self.rows_applied[table, _OPERATION_OF[WriteAction(action)]] += affected
        if commit_time is None:
            return
        self.transactions_applied += transactions
        self.batch_rows.observe(total)
        self.apply_seconds.observe(seconds)
        self.row_rate.mark(now, self.rows_applied.total())
        self.transaction_rate.mark(now, self.transactions_applied)
        offset = self.clock_offset or 0.0
        self.commit_time = commit_time
        self.applied_at = now
        self.end_to_end = max(0.0, now + offset - commit_time)
        self._observe_lags(now + offset, commit_time, first_commit_time, transactions)

    def _observe_lags(self, now: float, newest: float, oldest: float | None, transactions: int) -> None:
        """Count each transaction once: the ends are known, those between are taken as halfway."""
        ends = (newest,) if oldest is None or transactions < 2 else (oldest, newest)
        for commit_time in ends:
            self.commit_lag_seconds.observe(max(0.0, now - commit_time))
        if transactions > len(ends):
            self.commit_lag_seconds.observe(max(0.0, now - sum(ends) / len(ends)), transactions - len(ends))

    def produced(self, records: int, size: int) -> None:
        """These records, and bytes of keys and values, were committed in the log."""
        self.produced_records += records
        self.produced_bytes += size

    def measured(self, now: float, seconds: float) -> None:
        """A heartbeat took this long from its commit on the source until the target's checkpoint had passed it."""
        self.end_to_end = seconds
        self.applied_at = now

    def moved(self, position: str, lane: int = 0) -> None:
        """The lane's checkpoint is this now."""
        self.lanes[lane] = position
        if lane == 0:
            self.position = position

    def proven(self, source_time: float) -> None:
        """Everything that was committed on the source before this moment of its clock is applied."""
        if self.proven_time is None or source_time > self.proven_time:
            self.proven_time = source_time

    def pending(self, commit_time: float | None) -> None:
        """The oldest taken and unapplied transaction was committed then; None: there is none."""
        self.oldest_pending_commit_time = commit_time

    def retried(self, error: ReplicatorError, now: float, retry_at: float | None = None) -> None:
        """The same work is tried again because of this error."""
        self.retries[str(error.kind)] += 1
        self.trouble = Trouble.of(error, now)
        self.retry_at = retry_at


@dataclass(slots=True)
class ConnectorStatus:
    """One connector in this process.

    Attributes:
        name: the connector's.
        started_at: when this process began with it.
        forward: old to upgraded.
        restarts: how often its whole lifecycle was begun again after an error that may pass.
        bus: what has happened.

    """

    name: str
    started_at: float
    forward: FeedStatus
    restarts: int = 0
    bus: Bus = field(default_factory=Bus)

    @classmethod
    def new(cls, name: str, now: float) -> ConnectorStatus:
        """A connector that is just beginning."""
        return cls(name, now, FeedStatus(name, state_since=now))

    @property
    def state(self) -> State:
        """Where the connector stands."""
        return self.forward.state

    @property
    def feeds(self) -> tuple[FeedStatus, ...]:
        """All feeds that run."""
        return (self.forward,)

    @property
    def ready(self) -> bool:
        """Whether it does its work: not failed, not superseded. Lag doesn't count: a restart wouldn't help."""
        return not self.state.ended
