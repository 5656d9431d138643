"""An open-loop load: transactions at fixed moments, whatever the answers take. A process of its own, with threads.

    python -m tests.benchmarks.generator DSN TRANSACTIONS_PER_SECOND SECONDS THREADS

Each transaction inserts a row into `tick` and updates one of `counter`. Prints one JSON line: transactions, seconds,
and the worst lateness against the schedule.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import psycopg

TABLES: Final = """
    CREATE TABLE public.tick (
        thread integer, number integer, note text NOT NULL, said_at timestamptz NOT NULL,
        PRIMARY KEY (thread, number)
    );
    CREATE TABLE public.counter (id integer PRIMARY KEY, total bigint NOT NULL, changed_at timestamptz NOT NULL);
    INSERT INTO public.counter SELECT n, 0, now() FROM generate_series(0, 999) n;
"""
_TRANSACTION: Final = """
    WITH counted AS (UPDATE public.counter SET total = total + 1, changed_at = clock_timestamp() WHERE id = %s)
    INSERT INTO public.tick VALUES (%s, %s, 'a note of some length, as notes are', clock_timestamp())
"""


def generate(dsn: str, thread: int, threads: int, *, rate: float, begin: float, seconds: float) -> tuple[int, float]:
    """One thread's share; returns how many transactions, and the worst lateness in seconds."""
    pause = threading.Event().wait
    number, late = 0, 0.0
    step = threads / rate
    due = begin + thread / rate
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as connection:
        while due < begin + seconds:
            now = time.monotonic()
            if now < due:
                pause(due - now)
            late = max(late, time.monotonic() - due)
            counter = (number * threads + thread) * 7919 % 1000
            connection.execute(_TRANSACTION, (counter, thread, number))
            number += 1
            due += step
    return number, late


def main() -> None:
    """Generate, and say what was generated."""
    dsn, rate, seconds, threads = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    begin = time.monotonic() + 0.5
    with ThreadPoolExecutor(threads) as pool:
        shares = [
            pool.submit(generate, dsn, thread, threads, rate=rate, begin=begin, seconds=seconds)
            for thread in range(threads)
        ]
        results = [share.result() for share in shares]
    facts = {
        "transactions": sum(count for count, _ in results),
        "seconds": round(time.monotonic() - begin, 3),
        "late_seconds_max": round(max(late for _, late in results), 4),
    }
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
