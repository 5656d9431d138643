"""The demo's own measure of lag: from a commit on the old side until a reader of the upgraded side sees it.

A row is written every few milliseconds, whether the one before has arrived or not, and the other side is asked again
and again. The product isn't asked: what it believes doesn't count.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Self

import psycopg

INTERVAL_SECONDS = 0.05
POLL_SECONDS = 0.001

# Accounts go through a transform, and nothing else in the demo makes or removes one: ids arrive in order.
_WRITE = (
    b"INSERT INTO public.accounts (company, country_iso) SELECT 'probe', min(iso) FROM public.countries RETURNING id"
)
_SEEN = b"SELECT max(id) FROM crm.accounts"


@dataclass(frozen=True, slots=True)
class Lag:
    """Seconds from commit to sight, of so many rows."""

    samples: int
    p50: float
    p99: float
    most: float


class LagProbe:
    """Measures from entry to `finish`, in two threads.

    Args:
        old_dsn, upgraded_dsn: both databases.

    """

    def __init__(self, old_dsn: str, upgraded_dsn: str) -> None:
        self._old_dsn = old_dsn
        self._upgraded_dsn = upgraded_dsn
        self._written: SimpleQueue[tuple[int, float] | None] = SimpleQueue()  # None: that was all
        self._lags: list[float] = []
        self._stopping = threading.Event()
        self._leaving = threading.Event()
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in (self._write, self._watch)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._leaving.set()
        for thread in self._threads:
            thread.join()

    def finish(self, seconds_max: float) -> Lag | None:
        """Write no more, wait for the rows that are under way, and return the result; None where nothing was written.

        Raises:
            TimeoutError: rows haven't arrived by then.

        """
        self._stopping.set()
        for thread in self._threads:
            thread.join(seconds_max)
        self.check()
        if any(thread.is_alive() for thread in self._threads):
            raise TimeoutError(f"what the demo wrote to measure the lag has not arrived after {seconds_max:.0f} s")
        return self.result()

    def result(self) -> Lag | None:
        """What is known so far; None where nothing has arrived yet."""
        lags = sorted(self._lags)
        if not lags:
            return None
        return Lag(len(lags), quantile(lags, 0.5), quantile(lags, 0.99), lags[-1])

    def newest(self, count: int) -> list[float]:
        """The newest lags, oldest first."""
        return self._lags[-count:]

    def check(self) -> None:
        """Raise what ended a thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except psycopg.Error as error:
            self._failure = error

    def _write(self) -> None:
        try:
            with psycopg.connect(self._old_dsn, autocommit=True, prepare_threshold=0) as connection:
                due = time.monotonic()
                while not self._stopping.wait(max(0.0, due - time.monotonic())):
                    due = max(due + INTERVAL_SECONDS, time.monotonic())
                    row = connection.execute(_WRITE).fetchone()
                    assert row is not None
                    self._written.put((row[0], time.monotonic()))
        finally:
            self._written.put(None)

    def _watch(self) -> None:
        seen, seen_at = 0, 0.0
        with psycopg.connect(self._upgraded_dsn, autocommit=True, prepare_threshold=0) as connection:
            while (written := self._written.get()) is not None:
                number, committed_at = written
                while seen < number:
                    row = connection.execute(_SEEN).fetchone()
                    seen, seen_at = (row and row[0]) or 0, time.monotonic()
                    if seen < number and self._leaving.wait(POLL_SECONDS):
                        return
                self._lags.append(max(0.0, seen_at - committed_at))  # it may be seen before the answer to COMMIT


def quantile(ordered: list[float], share: float) -> float:
    """The smallest value that at least this share of all doesn't exceed."""
    at = -int(-share * len(ordered) // 1)  # rounded up
    return ordered[max(0, at - 1)]
