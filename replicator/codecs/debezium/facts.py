"""What a record says of its change beside the row: Debezium's `source` and `transaction`, JSON or Avro."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from replicator.codecs.debezium.fields import MalformedError

_sequence = msgspec.json.Decoder(tuple[str | None, str | None]).decode
UINT32: Final = 0xFFFFFFFF


class Facts(NamedTuple):
    """What a record says of its change beside the row; as in `RowChange`."""

    xid: int = 0
    lsn: int = 0
    commit_time: float = 0.0
    transaction: str | None = None
    order: int | None = None
    sequence: tuple[int, int] | None = None
    table_order: int | None = None


def facts(
    xid: int | None,
    lsn: int | None,
    micros: int | None,
    millis: int | None,
    *,
    sequence: str | None = None,
    transaction: str | None = None,
    order: int | None = None,
    table_order: int | None = None,
) -> Facts:
    """The facts of a record.

    Args:
        xid: `source.txId`, of which 32 bits count.
        lsn: `source.lsn`.
        micros: `source.ts_us` (Debezium 2.6 and later).
        millis: `source.ts_ms`.
        sequence: `source.sequence`: a JSON array of two texts.
        transaction: `transaction.id`, "xid:lsn", of which the part before the colon is the same in all its records.
        order: `transaction.total_order`.
        table_order: `transaction.data_collection_order`.

    Raises:
        MalformedError: the sequence is none.

    """
    return Facts(
        (xid or 0) & UINT32,
        lsn or 0,
        micros / 1e6 if micros is not None else (millis or 0) / 1e3,
        None if transaction is None else transaction.partition(":")[0],
        order,
        None if sequence is None else sequence_of(sequence),
        table_order,
    )


def sequence_of(text: str) -> tuple[int, int]:
    """`source.sequence`: the last commit's LSN, 0 before the first one, and the event's.

    Raises:
        MalformedError: it is none.

    """
    try:
        commit, event = _sequence(text)
        return int(commit or 0), int(event or 0)
    except (msgspec.DecodeError, ValueError):
        raise MalformedError("source.sequence is no pair of LSNs") from None
