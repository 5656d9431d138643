"""What the source's side costs by itself: decoding, and reading a slot with decoding."""

from __future__ import annotations

import time
from typing import Any, Final

import pytest

from replicator.codecs.pgoutput import PgoutputDecoder
from replicator.postgres.publication import ensure_publication
from replicator.postgres.slot import SlotSource
from replicator.postgres.slots import ensure_slot
from replicator.tables import TableName
from tests import pgoutput_encoder as server
from tests.benchmarks.report import show, write_result
from tests.fix_postgres import Database
from tests.fix_slot import table_of

ROWS: Final = 300_000
NAME: Final = TableName("public", "measured")
ROW: Final = (b"123456", b"Ada Lovelace", b"ada@example.com", b"2026-01-01 10:00:00.123456+00", b"12345.67", None)


def decode_seconds() -> float:
    """CPU of decoding ROWS inserts of 6 columns, kept in memory as a batch would be."""
    decoder = PgoutputDecoder()
    decoder.feed(server.begin(1))
    decoder.feed(server.relation(1, "public", "t", [(name, 25, name == "a") for name in "abcdef"]))
    message = server.insert(1, ROW)
    kept: list[Any] = []
    started = time.process_time()
    for _ in range(ROWS // 10_000):
        kept = [decoder.feed(message) for _ in range(10_000)]
    spent = time.process_time() - started
    assert len(kept) == 10_000
    return spent


async def read_seconds(database: Database) -> tuple[float, float]:
    """Read ROWS inserts from a slot; returns wall seconds, and CPU seconds of this process."""
    database.execute(
        "CREATE TABLE measured (id bigint PRIMARY KEY, name text, email text, at timestamptz, amount numeric, x text)"
    )
    await ensure_publication(database.dsn, "measured", [await table_of(database, NAME)], create=True, heartbeat=False)
    await ensure_slot(database.dsn, f"measured_{database.name}", create=True)
    database.execute(
        f"""DO $$ BEGIN FOR i IN 0..{ROWS // 100 - 1} LOOP
            INSERT INTO measured SELECT i * 100 + g, 'Ada Lovelace', 'ada@example.com', now(), 12345.67, NULL
            FROM generate_series(1, 100) g; COMMIT; END LOOP; END $$"""
    )
    source = SlotSource(
        database.dsn,
        connector="bench",
        feed="forward",
        slot=f"measured_{database.name}",
        publication="measured",
        decoder=PgoutputDecoder(),
        tables=[NAME],
    )
    await source.start(None)
    rows, started, cpu = 0, time.perf_counter(), time.process_time()
    while rows < ROWS:
        batch = await source.take(10_000, 16 << 20)
        rows += len(batch.events)
        source.confirm(batch.position)
    spent = time.perf_counter() - started, time.process_time() - cpu
    await source.close()
    return spent


@pytest.mark.benchmark
async def test_reading(old_database: Database) -> None:
    """Rows a second of the decoder alone, and of slot, socket and decoder together."""
    decoding = min(decode_seconds() for _ in range(3))
    wall, cpu = await read_seconds(old_database)
    facts = {
        "rows": ROWS,
        "decode_microseconds": round(decoding / ROWS * 1e6, 2),
        "read_cpu_microseconds": round(cpu / ROWS * 1e6, 2),
        "read_rows_per_second": round(ROWS / wall),
    }
    file = write_result("reading", facts)
    lines = [
        ("decode", f"{ROWS / decoding:,.0f}", f"{decoding / ROWS * 1e6:.2f}"),
        ("read and decode", f"{ROWS / wall:,.0f}", f"{cpu / ROWS * 1e6:.2f}"),
    ]
    show(f"Reading {ROWS:,} rows of 6 columns ({file.name})", ("", "rows/s", "CPU µs/row"), lines)
