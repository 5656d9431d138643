"""The example connectors, taken through the whole product."""

from pathlib import Path

import pytest

from replicator.config import load_connector
from replicator.demo.checkout import migrate
from replicator.demo.seed import seed
from tests.fix_postgres import Database
from tests.fix_replicator import ReplicatorProcess, StartReplicator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]

# What billing.py makes of the old tables, said once more in SQL.
INVOICES = """
SELECT id, customer_id, number, currency, total_cents / 100.0, issued_on, CASE WHEN paid THEN 'paid' ELSE 'open' END
FROM invoices ORDER BY id
"""
LINES = """
SELECT l.id, invoice_id, position, description, quantity, unit_cents / 100.0, currency
FROM invoice_lines l JOIN invoices i ON i.id = invoice_id ORDER BY l.id
"""
TOTALS = """
UPDATE invoices i SET total_cents =
    (SELECT coalesce(sum(quantity * unit_cents), 0) FROM invoice_lines l WHERE l.invoice_id = i.id)
"""


def ended(process: ReplicatorProcess) -> str:
    """What it printed; it must have ended with 0."""
    assert process.wait(120) == 0, process.story()
    return process.stdout


@pytest.fixture
def environment(old_database: Database, upgraded_database: Database) -> dict[str, str]:
    """Both connectors read these two databases."""
    return {
        f"{prefix}{name}": dsn
        for prefix in ("", "BILLING_")
        for name, dsn in (("OLD_DSN", old_database.dsn), ("UPGRADED_DSN", upgraded_database.dsn))
    } | {"CRM_LISTEN": "127.0.0.1:0", "BILLING_LISTEN": "127.0.0.1:0"}


@pytest.fixture(params=["crm", "billing"])
def example(request: pytest.FixtureRequest, old_database: Database, upgraded_database: Database) -> str:
    """An example with its schemas on both sides, and rows in the old one."""
    name: str = request.param
    migrate(old_database.dsn, ROOT / "schemas" / name / "old")
    migrate(upgraded_database.dsn, ROOT / "schemas" / name / "upgraded")
    if name == "crm":
        list(seed(old_database.dsn, 2_000))
    else:
        fill_billing(old_database)
    return name


def fill_billing(old: Database) -> None:
    old.execute("INSERT INTO customers (name) SELECT 'Customer ' || n FROM generate_series(1, 5) n")
    old.execute("""
        INSERT INTO invoices (customer_id, number, issued_on, currency, paid)
        SELECT 1 + n % 5, 'R-' || n, date '2024-01-01' + n, (ARRAY['EUR', 'USD'])[1 + n % 2], n % 3 = 0
        FROM generate_series(1, 100) n
    """)
    old.execute("""
        INSERT INTO invoice_lines (invoice_id, position, description, quantity, unit_cents)
        SELECT i.id, p, 'Item ' || p, p, i.id * 7 + p FROM invoices i, generate_series(1, 3) p
    """)
    old.execute(TOTALS)


def test_plan_has_nothing_to_mend(
    example: str, environment: dict[str, str], replicator_process: StartReplicator
) -> None:
    """On its own schemas each example's plan stops at nothing and warns of nothing."""
    told = ended(replicator_process(["plan", f"connectors/{example}.yaml"], env=environment, cwd=ROOT))
    assert "0 to mend, 0 to know" in told


def test_round_trip_law_holds(example: str, environment: dict[str, str], replicator_process: StartReplicator) -> None:
    """Each example's transforms are pure, and lead back to what they came from."""
    told = ended(replicator_process(["test", f"connectors/{example}.yaml"], env=environment, cwd=ROOT))
    assert "✔" in told


@pytest.mark.parametrize("example", ["billing"], indirect=True)
def test_invoices_balance_after_copy_and_stream(
    example: str,
    environment: dict[str, str],
    old_database: Database,
    upgraded_database: Database,
    replicator_process: StartReplicator,
) -> None:
    """Invoices and lines arrive in their new shape, by copy and by stream, in two runs, and the checks hold."""
    command = ["run", "connectors/billing.yaml", "--until", "caught-up"]
    ended(replicator_process(command, env=environment, cwd=ROOT))
    assert [(100,)] == upgraded_database.execute("SELECT count(*) FROM billing.invoices")
    for change in (
        "DELETE FROM invoice_lines WHERE id % 10 = 0",
        "UPDATE invoice_lines SET invoice_id = 7, position = 100 + id WHERE id % 10 = 1",
        "UPDATE invoice_lines SET position = -position; UPDATE invoice_lines SET position = 1000 + position",
        "UPDATE invoice_lines SET position = position - 996 WHERE position > 990",
        "DELETE FROM invoices WHERE id % 11 = 0",
        "UPDATE invoices SET currency = 'CHF', paid = true WHERE id % 13 = 0",
        TOTALS,
    ):
        old_database.execute(change)

    ended(replicator_process(command, env=environment, cwd=ROOT))

    invoices = "SELECT id, party_id, number, currency, total, issued_on, status FROM billing.invoices ORDER BY id"
    lines = "SELECT id, invoice_id, position, description, quantity, unit_price, currency FROM billing.invoice_lines"
    for check in load_connector(ROOT / "connectors" / "billing.yaml", environment).checks:
        wanted = [] if check.old is None else old_database.execute(check.old)
        assert wanted == upgraded_database.execute(check.upgraded or ""), check.name
    assert old_database.execute(INVOICES) == upgraded_database.execute(invoices)
    assert old_database.execute(LINES) == upgraded_database.execute(f"{lines} ORDER BY id")
