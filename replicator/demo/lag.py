"""The demo's own measure of lag: from the commit on the old server to the commit on the upgraded one.

Both servers note when each transaction was committed (`track_commit_timestamp`) and share the machine's clock, so it
is known for every row afterwards, without polling, and without asking the product.
"""

from dataclasses import dataclass

import psycopg

_COMMITTED = """
SELECT id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8
FROM {table} WHERE id > %s AND pg_xact_commit_timestamp(xmin) >= to_timestamp(%s)
"""


@dataclass(frozen=True, slots=True)
class Lag:
    """Seconds from commit to commit, of so many payments."""

    samples: int
    p50: float
    p99: float
    most: float


def last_payment(old_dsn: str) -> int:
    """The newest payment's id.

    Raises:
        psycopg.Error: the database can't be read.

    """
    with psycopg.connect(old_dsn, autocommit=True) as connection:
        row = connection.execute("SELECT coalesce(max(id), 0) FROM public.payments").fetchone()
        return 0 if row is None else int(row[0])


def measure(old_dsn: str, upgraded_dsn: str, *, after: int, since: float) -> Lag | None:
    """The lag of payments that were made while the feed was streaming; None where there were none.

    Args:
        old_dsn: the old database.
        upgraded_dsn: the upgraded one.
        after: only payments with a higher id.
        since: and committed from then on, in seconds since the epoch.

    Raises:
        psycopg.Error: a side can't be read, or doesn't note when transactions are committed.

    """
    old = _committed(old_dsn, "public.payments", after, since)
    upgraded = _committed(upgraded_dsn, "crm.payments", after, since)
    lags = sorted(upgraded[number] - at for number, at in old.items() if number in upgraded)
    if not lags:
        return None
    return Lag(len(lags), quantile(lags, 0.5), quantile(lags, 0.99), lags[-1])


def quantile(ordered: list[float], share: float) -> float:
    """The smallest value that at least this share of all doesn't exceed."""
    at = -int(-share * len(ordered) // 1)  # rounded up
    return ordered[max(0, at - 1)]


def _committed(dsn: str, table: str, after: int, since: float) -> dict[int, float]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return dict(connection.execute(_COMMITTED.format(table=table).encode(), (after, since)).fetchall())
