"""What our capture writes of a real server's values is read back to the byte."""

import pytest
from psycopg import AsyncRawCursor, sql

from replicator.codecs.debezium.columns import field_of, shape_of
from replicator.codecs.debezium.modes import CAPTURED
from replicator.demo.servers import PostgresServer
from replicator.events import UNCHANGED, Op, Values
from replicator.postgres.catalog import read_catalog
from replicator.postgres.session import connect
from replicator.tables import Catalog, TableName
from tests import every_type, values
from tests.debezium_records import FORMS, Form, RoundTrip
from tests.fix_postgres import Database, MakeDatabase

TABLE = TableName("crm", "here")
MORE = {
    "timestamp(3)": ["infinity", "-infinity", "2024-02-29 23:59:59.999", "0001-01-01 00:00:00 BC"],
    "timestamp(6)": ["294247-01-10 04:00:54.775807", "294247-01-10 04:00:25.2", "290000-01-01 00:00:00"],
    "timestamptz(0)": ["2024-02-29 12:00:00+00", "infinity", "10000-01-01 00:00:00+00"],
    "time(2)": ["24:00:00", "12:00:00.5", "00:00:00"],
    "timetz(3)": ["24:00:00-15:59", "00:00:00.5+02:30:15", "12:00:00+00"],
    "numeric(3,-2)": ["12300"],
    "numeric(1000,1000)": ["0." + "0" * 999 + "1"],
    "interval": [
        "-00:00:00.5",
        "1 year -2 mons",
        "-3 days +00:00:01",
        "178000000 years",
        "1000000:00:00",
        "-1 mons +2 days",
    ],
    "bit(1)": ["1", "0"],
    "bit varying(1)": ["1", ""],
    "bit varying": ["0001"],
    "bit(12)": ["000000000000", "000000000001", "100000000000"],
    "bit(3)[]": ["{101,000}"],
    "text[]": ["{__debezium_unavailable_value}", "{NULL,NULL}", "{NULL}", '{" a"," b "}', "{{a,b},{c,d}}"],
    "text": ["__debezium_unavailable_value", "null"],
    "bytea": ["\\x00", "\\x5f5f646562657a69756d5f756e617661696c61626c655f76616c7565"],
    "smallint[]": ["{0}", "{1,NULL}"],
    "bigint[]": ["{9007199254740993,-9223372036854775808}"],
    "real[]": ["{NaN,-Infinity,0.1,NULL,1e-45}"],
    "double precision[]": ["{NaN,1e+20,-0}"],
    "boolean[]": ["{t,f,NULL}"],
    "date[]": ["{infinity,2024-02-29}"],
    "time[]": ["{24:00:00}"],
    "timetz[]": ["{12:00:00+02}"],
    "uuid[]": ["{00000000-0000-0000-0000-000000000000}"],
    "box[]": ["{(3,4),(1,2);(1,1),(0,0)}"],
    "point[]": ['{"(1,2)"}'],
    "money[]": ['{$1.00,"$1,234.50"}'],
    "name[]": ["{a}"],
    "bit varying(5)[]": ["{01}"],
    "inet[]": ["{10.0.0.1,::1}"],
    "int4range[]": ['{"[1,3)",empty}'],
    "public.hstore": ['"a\\"b\\\\"=>"c\\"\\\\", "long key"=>NULL'],
    "public.ltree[]": ["{Top.A,Top.B}"],
}


async def filled(database: Database, types: dict[str, list[str]]) -> tuple[Catalog, list[Values]]:
    """A table with a column of each type, a row for each value, the last one all NULL; as the server prints them."""
    columns = ", ".join(f"c{at} {name}" for at, name in enumerate(types))
    database.execute(f"{every_type.SCHEMA}; CREATE TABLE crm.here (id int PRIMARY KEY, {columns})")
    for row in range(max(map(len, types.values())) + 1):
        given = [(at, found[row], name) for at, (name, found) in enumerate(types.items()) if row < len(found)]
        names = ", ".join(["id", *(f"c{at}" for at, _, _ in given)])
        marks = ", ".join(["%s", *(f"%s::{name}" for _, _, name in given)])
        database.execute(f"INSERT INTO crm.here ({names}) VALUES ({marks})", [row, *(one for _, one, _ in given)])
    async with await connect(database.dsn, "test") as connection:
        catalog = await read_catalog(connection)
        cursor = AsyncRawCursor(connection)
        await cursor.execute(sql.SQL("SELECT * FROM crm.here ORDER BY id"))
        result = cursor.pgresult
        assert result is not None
        return catalog, [
            tuple(result.get_value(row, at) for at in range(result.nfields)) for row in range(result.ntuples)
        ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("version", [18, 15])
@pytest.mark.parametrize("types", [every_type.VALUES, MORE, "built in"])
async def test_every_value_comes_back(
    *,
    server18: PostgresServer,
    server15: PostgresServer,
    make_database: MakeDatabase,
    version: int,
    types: dict[str, list[str]] | str,
    form: Form,
) -> None:
    """A row of every type, in all its values, is what it was after it was written and read, inserted or deleted."""
    if isinstance(types, str):
        types = {name: [one for one in found if one is not None] for name, found in values.TYPES_AND_VALUES}
    types = {name: found for name, found in types.items() if version == 15 or name not in every_type.NO_XML}
    catalog, rows = await filled(make_database(server18 if version == 18 else server15), types)
    table = catalog.tables[TABLE]
    both = RoundTrip(catalog, table, form)
    names = dict(zip(table.column_names, ["id", *types], strict=True))
    for row in rows:
        read = both.read(both.change(Op.INSERT, None, row))
        assert read.after is not None
        for name, one, other in zip(table.column_names, row, read.after, strict=True):
            assert (names[name], one) == (names[name], other)
        assert both.read(both.change(Op.DELETE, (row[0], *[None] * len(types)), None)).before == (
            row[0],
            *[None] * len(types),
        )


@pytest.mark.parametrize("form", FORMS)
async def test_unchanged_values_come_back(make_database: MakeDatabase, server15: PostgresServer, form: Form) -> None:
    """An unchanged TOASTed value of any type is one after it was written and read."""
    catalog, rows = await filled(
        make_database(server15), {name: found[:1] for name, found in every_type.VALUES.items()}
    )
    table = catalog.tables[TABLE]
    both = RoundTrip(catalog, table, form)
    row: Values = (rows[0][0], *[UNCHANGED] * (len(table.columns) - 1))

    assert both.read(both.change(Op.UPDATE, None, row)).after == row
    assert all(field_of(one, CAPTURED, catalog.enums) is not None for one in table.columns)
    assert shape_of(table.by_name["c0"]).kind == "smallint"
