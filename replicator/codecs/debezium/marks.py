"""What Debezium writes beside changes: the boundaries of transactions, and heartbeats.

https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-transaction-metadata
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicator.codecs.debezium.fields import MalformedError
from replicator.records import Beat, TransactionMark

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from replicator.tables import TableName


class Marks:
    """Reads records of the transaction topic.

    Args:
        tables: those that a count may be of.

    """

    def __init__(self, tables: Iterable[TableName]) -> None:
        # Debezium joins schema and name by a dot and quotes neither, so a name can't be taken apart.
        self._tables = {f"{table.schema}.{table.name}": table for table in tables}

    def read(self, mark: Mapping[str, Any]) -> TransactionMark:
        """The boundary that a record's fields say.

        Counts of tables that aren't known are left out; so are those of logical messages, which `events` counts.

        Raises:
            MalformedError: they say none.

        """
        status, identity, millis = mark.get("status"), mark.get("id"), mark.get("ts_ms")
        if status not in {"BEGIN", "END"} or not isinstance(identity, str) or not isinstance(millis, int):
            raise MalformedError("it is no boundary of a transaction")
        events = mark.get("event_count")
        if (status == "END") != isinstance(events, int):
            raise MalformedError("only the end of a transaction has a count of its events")
        counts = []
        for one in mark.get("data_collections") or ():
            table = self._tables.get(one["data_collection"])
            if table is not None:
                counts.append((table, int(one["event_count"])))
        return TransactionMark(identity.partition(":")[0], events, tuple(counts), millis / 1e3)


def beat(mark: Mapping[str, Any]) -> Beat:
    """The heartbeat that a record's fields say.

    Raises:
        MalformedError: they say none.

    """
    millis = mark.get("ts_ms")
    if not isinstance(millis, int):
        raise MalformedError("it is no heartbeat")
    return Beat(millis / 1e3)
