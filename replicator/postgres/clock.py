"""How far a server's clock is from ours."""

from __future__ import annotations

import time
from typing import Final

from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors

SAMPLES: Final = 5
_NOW: Final = "SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())"


async def clock_offset(dsn: str, name: str) -> float:
    """The server's clock minus ours, in seconds, exact to half of the fastest round trip.

    Args:
        dsn: the server.
        name: the connector's, for application_name.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION.

    """
    best = offset = float("inf")
    async with await connect(dsn, f"{name}/clock") as connection:
        for _ in range(SAMPLES):
            began = time.time()
            with driver_errors("reading the source's clock"):
                row = await (await connection.execute(_NOW)).fetchone()
            ended = time.time()
            assert row is not None
            if ended - began < best:
                best = ended - began
                offset = float(row[0]) - (began + ended) / 2
    return offset
