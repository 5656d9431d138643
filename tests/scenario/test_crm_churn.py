"""The CRM example under load, in settings that the demo doesn't use: compared in full by the demo's own code."""

import uuid
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from replicator.demo.checkout import migrate as run_versions
from replicator.demo.compare import compare, links, orphans
from replicator.demo.seed import seed
from replicator.demo.writer import Writer
from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import MakeDatabase
from tests.polling import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
TABLES = """
    - {old: "public.*", upgraded: "crm.*"}
    - {old: public.countries, upgraded: ref.countries, columns: {iso: iso_code}, drop: [legacy_id]}
    - {old: public.order_items, upgraded: crm.order_items, references: {order_id: public.orders}}
    - {old: public.payments, upgraded: crm.payments, references: {order_id: public.orders}}
"""


DROP_FOREIGN_KEYS = """
    DO $$ DECLARE one record; BEGIN
        FOR one IN SELECT conrelid::regclass AS owner, conname FROM pg_constraint WHERE contype = 'f' LOOP
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', one.owner, one.conname);
        END LOOP;
    END $$
"""


@pytest.fixture
def crm(migrate: Migrate, make_database: MakeDatabase) -> Migration:
    """The example with its schemas, and rows on the old side."""
    old, upgraded = make_database(), make_database()
    run_versions(old.dsn, ROOT / "schemas" / "crm" / "old")
    run_versions(upgraded.dsn, ROOT / "schemas" / "crm" / "upgraded")
    list(seed(old.dsn, 4_000))
    transforms = (ROOT / "connectors" / "crm.py").read_text()
    return migrate(tables=TABLES, transforms=transforms, name="crm", old=old, upgraded=upgraded)


def lose_rights(crm: Migration) -> None:
    """From now on the feed may not take the replica role; foreign keys would then come when it has caught up."""
    role = f"plain_{uuid.uuid4().hex[:8]}"
    crm.upgraded.execute(DROP_FOREIGN_KEYS)
    crm.upgraded.execute(
        f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {crm.upgraded.name} TO {role};"
        f"GRANT USAGE ON SCHEMA crm, ref TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA crm, ref TO {role}"
    )
    crm.environment = {**crm.environment, "UPGRADED_DSN": make_conninfo(crm.upgraded.dsn, user=role)}


@pytest.mark.parametrize(
    "apply, replica",
    [("{lanes: 3, batch_rows_max: 200}", True), ("{batch_rows_max: 5}", True), ("{batch_rows_max: 200}", False)],
    ids=["lanes", "small batches", "no replica role"],
)
def test_every_shape_under_load(crm: Migration, apply: str, *, replica: bool) -> None:
    """Copied while the application writes, streamed, killed twice: no row differs, no reference leads nowhere."""
    with crm.connector.open("a") as file:
        file.write(f"apply: {apply}\n")
    if not replica:
        lose_rights(crm)
    with Writer(crm.old.dsn, sessions=3, transactions_per_second=150) as writer:

        def written(transactions: int) -> None:
            wait_until(lambda: writer.transactions > transactions, 60)

        written(50)
        crm.start()
        for mark in (400, 800):
            written(mark)
            crm.started[-1].kill()
            crm.start()
        kept = links(crm.upgraded.dsn)
        written(1_500)
        writer.stop()
    crm.catch_up(120)

    found = compare(crm.old.dsn, crm.upgraded.dsn)
    assert [] == [sample for table in found for sample in table.samples()]
    assert sum(table.rows for table in found) > 2_000
    assert not any(orphans(crm.upgraded.dsn).values())
    assert kept.items() <= links(crm.upgraded.dsn).items()
