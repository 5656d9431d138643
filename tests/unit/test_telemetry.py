"""What a feed knows about itself: lag, rates, histograms, the status document."""

import math

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.telemetry import (
    BackfillState,
    ConnectorStatus,
    FeedStatus,
    Histogram,
    State,
    TableBackfill,
    connector_document,
    lag_of,
)
from replicator.telemetry.lag import MEASURED_FOR_SECONDS
from replicator.telemetry.status import Rate
from replicator.writes import WriteAction

NOW = 1_700_000_000.0


def apply_one(feed: FeedStatus, *, now: float = NOW, commit_time: float = NOW - 0.25, position: str = "0/10") -> None:
    feed.applied(
        now,
        position=position,
        rows={("public.a", "upsert"): 3, ("public.a", "prune"): 1},
        transactions=1,
        commit_time=commit_time,
        seconds=0.01,
    )


def test_a_lag_that_nobody_measured_is_unknown() -> None:
    """A feed that has just begun says None four times, never 0."""
    lag = lag_of(FeedStatus("crm"), NOW)

    assert (None, None, None, None) == (
        lag.end_to_end_seconds,
        lag.freshness_seconds,
        lag.backlog_offsets,
        lag.retained_wal_bytes,
    )


def test_end_to_end_is_the_newest_measurement() -> None:
    """Source commit to target commit, of the transaction applied last."""
    feed = FeedStatus("crm")
    apply_one(feed)

    assert 0.25 == lag_of(feed, NOW + 5).end_to_end_seconds


def test_end_to_end_is_unknown_when_the_measurement_is_old() -> None:
    """A feed that stands still doesn't show the small lag that it had once."""
    feed = FeedStatus("crm")
    apply_one(feed)

    assert lag_of(feed, NOW + MEASURED_FOR_SECONDS + 1).end_to_end_seconds is None


def test_end_to_end_is_at_least_the_age_of_what_waits() -> None:
    """A transaction that is taken and can't be applied makes the lag grow with the clock."""
    feed = FeedStatus("crm")
    apply_one(feed)
    feed.pending(NOW)

    assert 42.0 == lag_of(feed, NOW + 42).end_to_end_seconds


def test_clock_offset_is_taken_out() -> None:
    """With the source's clock 10 s ahead, a commit 0.25 s ago is 0.25 s old, not -9.75 s."""
    feed = FeedStatus("crm", clock_offset=10.0)
    apply_one(feed, commit_time=NOW + 9.75)
    feed.proven(NOW + 9.0)
    lag = lag_of(feed, NOW)

    assert (0.25, 1.0) == (lag.end_to_end_seconds, lag.freshness_seconds)


def test_freshness_grows_until_something_newer_is_proven() -> None:
    """Freshness is the age of the newest proven moment; an older proof doesn't take it back."""
    feed = FeedStatus("crm")
    feed.proven(NOW)
    feed.proven(NOW - 100)

    assert 7.0 == lag_of(feed, NOW + 7).freshness_seconds


def test_rows_are_counted_by_table_and_operation() -> None:
    """Every action of a write counts as one of four operations, and declared tables begin at 0."""
    feed = FeedStatus("crm")
    feed.declare(["public.a", "public.b"])
    apply_one(feed)
    counted = {at: rows for at, rows in feed.rows_applied.items() if rows}

    assert {("public.a", "upsert"): 3, ("public.a", "delete"): 1} == counted
    assert ("public.b", "insert") in feed.rows_applied


@pytest.mark.parametrize("action", WriteAction)
def test_every_action_has_an_operation(action: WriteAction) -> None:
    """An action that a statement may have is never an unknown label."""
    feed = FeedStatus("crm")
    feed.applied(NOW, position="0/1", rows={("t", action.value): 1}, transactions=1, commit_time=NOW, seconds=0.0)

    assert 1 == feed.rows_applied.total()


def test_success_ends_the_trouble() -> None:
    """An error that was retried is shown until work goes on."""
    feed = FeedStatus("crm")
    feed.retried(ReplicatorError("lost", kind=ErrorKind.CONNECTION), NOW, NOW + 1)
    apply_one(feed)

    assert feed.trouble is None
    assert feed.retry_at is None
    assert 1 == feed.retries["connection"]


def test_each_transaction_of_a_batch_is_in_the_lag_histogram() -> None:
    """A batch of 100 transactions counts 100 times."""
    feed = FeedStatus("crm")
    feed.applied(
        NOW,
        position="0/1",
        rows={},
        transactions=100,
        commit_time=NOW - 0.1,
        first_commit_time=NOW - 0.3,
        seconds=0.1,
    )

    assert 100 == feed.commit_lag_seconds.count
    assert pytest.approx(20.0) == feed.commit_lag_seconds.sum


def test_histogram_counts_up_to_and_including_each_bound() -> None:
    """Buckets are cumulative and include their bound, as Prometheus wants them."""
    histogram = Histogram([1, 10])
    for value in (0.5, 1, 5, 11):
        histogram.observe(value)

    assert [(1, 2), (10, 3), (math.inf, 4)] == list(histogram.cumulative())
    assert 17.5 == histogram.sum


def test_quantiles_lie_in_their_bucket() -> None:
    """The median of a hundred values of 5 lies between the bounds around 5."""
    histogram = Histogram([1, 10, 100])
    histogram.observe(5, times=100)

    assert 1 < (histogram.quantile(0.5) or 0) <= 10
    assert Histogram([1]).quantile(0.5) is None


def test_rate_follows_growth_and_falls_to_zero() -> None:
    """Rows per second over the window; 0 when nothing comes any more; None before two points."""
    rate = Rate()
    rate.mark(0, 0)
    assert rate.per_second(0) is None
    for second in range(1, 101):
        rate.mark(second, second * 50)

    assert pytest.approx(50.0) == rate.per_second(100)
    assert 0.0 == rate.per_second(200)
    assert len(rate.points) < 60


def test_backfill_says_when_it_will_be_done() -> None:
    """Rows, rate and ETA of a copy; an estimate that was too small grows with what is copied."""
    copy = TableBackfill("public.a", rows_estimate=1000)
    copy.start(NOW)
    copy.advance(NOW + 10, 200)
    assert (20.0, 40.0) == (copy.rate.per_second(NOW + 10), copy.eta_seconds(NOW + 10))
    copy.advance(NOW + 20, 1000)
    assert 1200 == copy.rows_estimate
    copy.finish(NOW + 30)

    assert (BackfillState.DONE, 0.0) == (copy.state, copy.eta_seconds(NOW + 30))


def test_document_shows_unknown_as_null() -> None:
    """The keys that scripts read are always there, with null for what isn't known."""
    document = connector_document(ConnectorStatus.new("crm", NOW), NOW)
    wanted = ("end_to_end_seconds", "freshness_seconds", "backlog_offsets", "retained_wal_bytes", "position")

    assert dict.fromkeys(wanted) == {key: document[key] for key in wanted}
    assert "preparing" == document["state"]
    assert {"tables", "dead_letters", "epoch", "backfill"} <= document.keys()


def test_document_shows_the_error_with_its_facts() -> None:
    """Kind, message, table, hint: what the log line has, status has."""
    status = ConnectorStatus.new("crm", NOW)
    error = ReplicatorError("no such column", kind=ErrorKind.SCHEMA, table="crm.a", hint="Add it")
    status.forward.retried(error, NOW)
    status.forward.enter(State.FAILED, NOW)
    document = connector_document(status, NOW)

    assert {"kind": "schema", "table": "crm.a", "hint": "Add it"}.items() <= document["error"].items()
    assert (False, False) == (document["ready"], document["running"])
