"""Watches a target as an application would: when does a source transaction become visible here?

    python -m tests.benchmarks.probe DSN THREADS INTERVAL_SECONDS

Each thread of the generator commits its numbers in order, so the highest visible number of each, asked again and
again, says it for all. When stdin ends it prints a JSON line for each time that one of them had grown: [unix seconds,
highest number of thread 0, of thread 1, ...]. Commit timestamps of the target would not do: an apply worker with a
replication origin sets them to the source's.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import psycopg


def _wait_for_end(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


def main() -> None:
    """Watch until stdin ends."""
    dsn, threads, interval = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    over = threading.Event()
    threading.Thread(target=_wait_for_end, args=(over,), daemon=True).start()
    highest = ", ".join(f"(SELECT max(number) FROM public.tick WHERE thread = {thread})" for thread in range(threads))
    seen: tuple[int | None, ...] = ()
    samples = []
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as connection:
        last = False
        while not last:
            last = over.wait(interval)
            row = connection.execute(f"SELECT {highest}".encode()).fetchone()
            if row is not None and row != seen:
                seen = row
                # After the answer: the true moment is never later, and at most the interval and a query earlier.
                samples.append([time.time(), *row])
    sys.stdout.writelines(f"{json.dumps(sample)}\n" for sample in samples)


if __name__ == "__main__":
    main()
