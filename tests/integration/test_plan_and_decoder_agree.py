"""What the plan says of Debezium's modes is what the decoder refuses: every type, under every mode."""

from dataclasses import replace

from replicator.assess import Level
from replicator.codecs.debezium.columns import field_of
from replicator.codecs.debezium.modes import Modes
from replicator.codecs.debezium.values import converter
from replicator.errors import ReplicatorError
from replicator.postgres.catalog import read_catalog
from replicator.postgres.session import connect
from replicator.tables import Catalog, Column, TableName
from tests.assessing import log_plan, table
from tests.every_type import SCHEMA, VALUES
from tests.fix_postgres import Database

TIMES = ("adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds")
SETTINGS = [
    *({"time.precision.mode": mode} for mode in TIMES),
    *({"decimal.handling.mode": mode} for mode in ("precise", "double", "string")),
    *({"interval.handling.mode": mode} for mode in ("numeric", "string")),
    *({"hstore.handling.mode": mode} for mode in ("json", "map")),
    *({"binary.handling.mode": mode} for mode in ("bytes", "base64", "base64-url-safe", "hex")),
    {"include.unknown.datatypes": "false"},
    {"money.fraction.digits": "0", "decimal.handling.mode": "precise"},
    {"value.converter.replace.null.with.default": "true"},
]


async def catalog_of(database: Database) -> Catalog:
    columns = [f"c{number} {kind}" for number, kind in enumerate(VALUES)]
    extra = ["t3 timestamp(3)", "b varbit[]", "n name[]", "d text DEFAULT 'x'"]
    extra += ["tm time[]", "bi bit(3)[]", "da date[]"]
    extra += ["pa crm.positive[]", "wo crm.worths", "iv crm.spans"]
    database.execute(SCHEMA)
    database.execute("CREATE DOMAIN crm.worths AS crm.positive[]; CREATE DOMAIN crm.spans AS interval[]")
    database.execute(f"CREATE TABLE crm.held ({', '.join([*columns, *extra])})")
    async with await connect(database.dsn, "test") as connection:
        return await read_catalog(connection)


def refused(column: Column, modes: Modes, catalog: Catalog) -> bool:
    """Whether the decoder can't bring the column's values back, or Debezium doesn't send them."""
    field = field_of(column, modes, catalog.enums)
    if field is None:
        return True
    try:
        converter(field, column, modes)
    except ReplicatorError:
        return True
    return False


async def test_the_plan_and_the_decoder_agree(old15_database: Database) -> None:
    """A mode that the plan lets through is not refused when the first record comes, nor the other way round."""
    catalog = await catalog_of(old15_database)
    differ = []
    for column in catalog.tables[TableName("crm", "held")].columns:
        held = table("public.held", replace(column, name="c"))
        for changes in SETTINGS:
            config = dict(changes)
            made = log_plan(held, config=config, enums=catalog.enums, money_digits=2)
            lost = [one for one in made.findings if one.code == "debezium_loss" and one.level is Level.STOP]
            settings = {
                "include.unknown.datatypes": "true",
                "decimal.handling.mode": "string",
                "interval.handling.mode": "string",
                "value.converter.replace.null.with.default": "false",
                **config,
            }
            if bool(lost) != refused(column, Modes.of(settings), catalog):
                differ.append((column.type_name, changes, [one.message for one in lost]))
    assert [] == differ
