"""What a look at the mapped tables saw, as text that the next process compares with. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from replicator.tables import Catalog, Column, Table, TableName

if TYPE_CHECKING:
    from replicator.engine.changes import Watched


def to_text(catalog: Catalog, tables: Iterable[Watched]) -> str:
    """What `changes` compares of these tables and their partitions; two equal texts have no changes between them."""
    names = {each.table for each in tables}
    found = [catalog.tables[name] for name in sorted(names) if name in catalog.tables]
    leaves = [catalog.tables[leaf] for table in found for leaf in table.leaves if leaf in catalog.tables]
    return json.dumps({"version": catalog.server_version, "tables": [_table(table) for table in [*found, *leaves]]})


def from_text(text: str) -> Catalog:
    """The catalog of a look, as far as `to_text` wrote it."""
    document = json.loads(text)
    tables = [_read_table(table) for table in document["tables"]]
    return Catalog(document["version"], {table.name: table for table in tables})


def _table(table: Table) -> dict[str, Any]:
    return {
        "name": [table.name.schema, table.name.name],
        "oid": table.oid,
        "relfilenode": table.relfilenode,
        "identity": table.identity_columns,
        "leaves": [[leaf.schema, leaf.name] for leaf in table.leaves],
        "columns": [
            [column.name, column.type_oid, column.type_name, column.typmod, column.version, column.number]
            for column in table.columns
        ],
    }


def _read_table(table: dict[str, Any]) -> Table:
    return Table(
        name=TableName(*table["name"]),
        oid=table["oid"],
        relfilenode=table["relfilenode"],
        identity_columns=tuple(table["identity"]),
        leaves=tuple(TableName(*leaf) for leaf in table["leaves"]),
        columns=tuple(
            Column(name, type_oid, type_name, "", typmod=typmod, version=version, number=number[0] if number else 0)
            for name, type_oid, type_name, typmod, version, *number in table["columns"]
        ),
    )
