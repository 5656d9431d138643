"""The example connectors: valid files, and transforms that do what their table of contents says."""

import importlib.util
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator import Aggregate, Row
from replicator.config import load_connector
from replicator.tables import TableName
from replicator.transforms import load_transforms

CONNECTORS = Path(__file__).parents[2] / "connectors"
ENVIRONMENT = {
    "OLD_DSN": "postgresql://old/crm",
    "UPGRADED_DSN": "postgresql://upgraded/crm",
    "BILLING_OLD_DSN": "postgresql://old/billing",
    "BILLING_UPGRADED_DSN": "postgresql://upgraded/billing",
}
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def load(name: str) -> ModuleType:
    """The module as a test of the user's own would import it."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", CONNECTORS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


crm = load("crm")
billing = load("billing")


def of_table(rows: Iterable[Row], table: str) -> list[Row]:
    return [row for row in rows if row.table == table]


@pytest.mark.parametrize("name", ["crm", "billing"])
def test_examples_are_valid(name: str) -> None:
    """Both files load with nothing but the environment that their first lines name, and every transform has its way
    back.
    """
    connector = load_connector(CONNECTORS / f"{name}.yaml", ENVIRONMENT)
    assert name == connector.name
    assert connector.transforms is not None
    transforms = load_transforms(connector.transforms)
    assert [] == [transform.name for transform in transforms if transform.backward is None]


def test_examples_have_their_checks() -> None:
    """The balance that must hold after billing's migration is one of its checks."""
    connector = load_connector(CONNECTORS / "billing.yaml", ENVIRONMENT)
    assert "invoices balance" in [check.name for check in connector.checks]


def test_crm_maps_every_table() -> None:
    """Tables without a transform are found by the wildcard, or have an entry of their own."""
    connector = load_connector(CONNECTORS / "crm.yaml", ENVIRONMENT)
    mapped = {}
    for name in ("products", "countries", "order_items"):
        table = TableName("public", name)
        entry = connector.mapping_of(table)
        assert entry is not None
        mapped[name] = str(entry.upgraded_table(table))
    assert {
        "products": "crm.products",
        "countries": "ref.countries",
        "order_items": "crm.order_items",
    } == mapped


def account(**columns: object) -> Row:
    plain = {"id": 1, "company": "Fischer & Co.", "phone": "+49 30 1", "fax": None, "street": None}
    plain |= {"postal_code": "10115", "city": "Berlin", "country_iso": "DE", "primary_contact_id": None}
    return Row.of("public.accounts", plain | columns)


def test_account_is_renamed_and_joined() -> None:
    """An account's columns get their new names, and its address becomes one document."""
    made = crm.account(account())

    assert ("Fischer & Co.", "DE") == (made["name"], made["country_code"])
    assert {"street": None, "postal_code": "10115", "city": "Berlin"} == made["address"]
    assert {"id", "name", "phone", "address", "country_code", "primary_contact_id"} == set(made)


@given(street=st.none() | TEXT, city=st.none() | TEXT)
def test_account_comes_back(street: str | None, city: str | None) -> None:
    """Any address comes back as it was; only the fax number, declared lossy, doesn't."""
    old = account(street=street, city=city)

    back = crm.account_back(crm.account(old))

    assert dict(old.drop("fax")) == dict(back)
    assert {"fax"} == crm.account.lossy


def user(**columns: object) -> Row:
    plain = {"id": 7, "account_id": 1, "full_name": "Ada Lovelace", "email": "ada@example.com", "role": "editor"}
    return Row.of("public.users", plain | {"last_login": None} | columns)


def test_user_becomes_a_user_with_permissions() -> None:
    """The role becomes the permissions that it stood for, without ids: the rows that are there keep theirs."""
    made = list(crm.user(user()))

    (root,) = of_table(made, "crm.users")
    permissions = of_table(made, "crm.user_permissions")
    assert ("Ada", "Lovelace") == (root["first_name"], root["last_name"])
    assert [{"user_id": 7, "permission": "read"}, {"user_id": 7, "permission": "write"}] == [
        dict(row) for row in permissions
    ]


def test_deleted_contacts_are_left_out() -> None:
    """A row that is marked as deleted has no counterpart, whatever the mark is; the others come back as they were."""
    old = Row.of("public.contacts", id=1, account_id=2, name="Ada", phone=None, deleted_at=None)

    made = crm.contact(old)

    assert {"id", "account_id", "name", "phone"} == set(made)
    assert dict(old) == dict(crm.contact_back(made))
    assert None is crm.contact(old.set(deleted_at="infinity"))
    assert "deleted_at IS NULL" == crm.contact.owns_old


@given(name=TEXT, role=st.sampled_from(sorted(crm.PERMISSIONS)))
def test_user_comes_back(name: str, role: str) -> None:
    """Every name, with any number of blanks anywhere, and every role come back."""
    old = user(full_name=name, role=role)
    made = list(crm.user(old))
    (root,) = of_table(made, "crm.users")

    back = crm.user_back(Aggregate.of(root, {"crm.user_permissions": of_table(made, "crm.user_permissions")}, key="id"))

    assert dict(old) == dict(back)


@pytest.mark.parametrize(
    "granted, role",
    [
        ((), "suspended"),
        (("read", "export"), "viewer"),
        (("write",), "suspended"),
        (("invite", "read", "write"), "admin"),
    ],
)
def test_permissions_give_the_role_that_they_cover(granted: tuple[str, ...], role: str) -> None:
    """Permissions granted on the upgraded side never give more than they allow when they go back."""
    rows = [Row.of("crm.user_permissions", user_id=1, permission=one) for one in granted]
    root = Row.of("crm.users", id=1, first_name="Ada", last_name=None)

    assert role == crm.user_back(Aggregate.of(root, {"crm.user_permissions": rows}, key="id"))["role"]


def order(notes: list[Row]) -> Aggregate:
    root = Row.of("public.orders", id=17, account_id=1, state="open", ordered_at="infinity")
    return Aggregate.of(root, {"public.order_notes": notes}, key="id")


def note(number: int, body: str = "Ring twice") -> Row:
    return Row.of("public.order_notes", id=number, author="Ada", body=body, written_at="2024-06-01 00:00:00.000001+00")


def test_order_takes_in_its_notes() -> None:
    """Notes become a document in the order of their ids, whatever order they come in."""
    made = crm.order(order([note(3), note(2)]))

    assert [2, 3] == [one["id"] for one in made["notes"]]
    assert {"id", "account_id", "state", "placed_at", "notes"} == set(made)
    assert [] == crm.order(order([]))["notes"]


def test_order_gets_a_uuid() -> None:
    """The key of an order is the same UUID each time, made of its number."""
    key = crm.order.key
    assert uuid5(UUID("5b8f1f0e-3c7b-4d0f-9a55-0d6f2f6f9d10"), "17") == key.function(17)
    assert "public.orders_id_seq" == key.sequence


@given(bodies=st.lists(TEXT, max_size=4))
def test_order_comes_back(bodies: list[str]) -> None:
    """An order and its notes come back as they were, to the microsecond."""
    old = order([note(number, body) for number, body in enumerate(bodies)])

    back = list(crm.order_back(crm.order(old).to("crm.orders")))

    (root,) = of_table(back, "public.orders")
    assert dict(old.root) == dict(root)
    assert [dict(row) for row in old["public.order_notes"]] == [
        dict(row) for row in of_table(back, "public.order_notes")
    ]


def test_note_without_an_id_gets_one_in_the_old_database() -> None:
    """A note that the upgraded application wrote may lack an id; then the old table's sequence gives it."""
    written = {"author": "Ada", "body": "Call", "written_at": "2026-01-01 00:00:00+00"}

    assert "id" not in crm.note_row(written)


def invoice(total: int, unit: int, *, paid: bool = False) -> Aggregate:
    root = Row.of("public.invoices", id=1, customer_id=2, number="R-1", currency="EUR", total_cents=total, paid=paid)
    line = Row.of("public.invoice_lines", id=5, invoice_id=1, position=1, quantity=3, unit_cents=unit)
    return Aggregate.of(root, {"public.invoice_lines": [line]}, key="id")


def test_invoice_has_amounts_with_a_currency() -> None:
    """Cents become amounts with two digits, and every line names the invoice's currency."""
    root, line = billing.invoice(invoice(5997, 1999, paid=True))

    assert (Decimal("59.97"), "EUR", "paid") == (root["total"], root["currency"], root["status"])
    assert (Decimal("19.99"), "EUR") == (line["unit_price"], line["currency"])
    assert root["total"] == line["quantity"] * line["unit_price"]


CENTS = st.integers(-(2**63), 2**63 - 1)


@given(total=CENTS, unit=CENTS, paid=st.booleans())
def test_invoice_comes_back(total: int, unit: int, *, paid: bool) -> None:
    """Every bigint of cents comes back, to the cent."""
    old = invoice(total, unit, paid=paid)
    root, *lines = billing.invoice(old)

    back = list(billing.invoice_back(Aggregate.of(root, {"billing.invoice_lines": lines}, key="id")))

    assert [dict(old.root), *map(dict, old["public.invoice_lines"])] == [dict(row) for row in back]


def test_invoice_with_two_currencies_has_no_way_back() -> None:
    """What the old database can't hold is refused, not guessed."""
    root, line = billing.invoice(invoice(1, 1))
    mixed = Aggregate.of(root, {"billing.invoice_lines": [line.set(currency="USD")]}, key="id")

    with pytest.raises(ValueError, match="another currency"):
        list(billing.invoice_back(mixed))
