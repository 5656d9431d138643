"""How the tables of the CRM change their shape. Tables that aren't here are listed in crm.yaml.

Each function maps one row, or one row and those that belong to it, to what the upgraded database has of it. It says
nothing about inserts, updates and deletes: after every change the upgraded side equals what the function returns.
"""

from collections.abc import Iterable, Iterator
from uuid import UUID, uuid5

from replicator import Aggregate, KeyMap, RawText, Row, transform

ORDERS = UUID("5b8f1f0e-3c7b-4d0f-9a55-0d6f2f6f9d10")
"""Namespace of the UUIDs of orders."""

PERMISSIONS = {
    "suspended": (),
    "viewer": ("read",),
    "editor": ("read", "write"),
    "admin": ("read", "write", "invite"),
}
"""What each role was allowed to do, the least first."""

ADDRESS = ("street", "postal_code", "city")


@transform(old="public.accounts", upgraded="crm.accounts", lossy=("fax",))
def account(row: Row) -> Row:
    """Columns get better names, three of them become one document, and the fax number goes (hence `lossy`)."""
    address = {part: row[part] for part in ADDRESS}
    return row.drop("fax", *ADDRESS).rename(company="name", country_iso="country_code").set(address=address)


@account.inverse
def account_back(row: Row) -> Row:
    """The same, backwards."""
    address = row["address"]
    return (
        row.drop("address")
        .rename(name="company", country_code="country_iso")
        .set({part: address.get(part) for part in ADDRESS})
    )


@transform(old="public.users", upgraded={"crm.users": "id", "crm.user_permissions": "user_id"})
def user(row: Row) -> Iterator[Row]:
    """A name is split, and a role becomes the permissions that it stood for.

    The permissions' own ids are none of our business: a permission that stays keeps its id, and what refers to it.
    """
    first, space, last = row["full_name"].partition(" ")
    yield row.to("crm.users").drop("full_name", "role").set(first_name=first, last_name=last if space else None)
    for permission in PERMISSIONS[row["role"]]:
        yield Row.of("crm.user_permissions", user_id=row["id"], permission=permission)


@user.inverse
def user_back(user: Aggregate) -> Row:
    """The two names are joined; permissions that fit no role exactly give the highest role that they cover."""
    first, last = user.root["first_name"], user.root["last_name"]
    granted = {row["permission"] for row in user["crm.user_permissions"]}
    role = [role for role, needed in PERMISSIONS.items() if granted.issuperset(needed)][-1]
    return (
        user.root.to("public.users")
        .drop("first_name", "last_name")
        .set(full_name=first if last is None else f"{first} {last}", role=role)
    )


@transform(old="public.contacts", upgraded="crm.contacts", owns_old="deleted_at IS NULL")
def contact(row: Row) -> Row | None:
    """Deleted contacts stay behind; `owns_old` says that the way back leaves them alone as well."""
    return row.drop("deleted_at") if row.raw("deleted_at") is None else None


@contact.inverse
def contact_back(row: Row) -> Row:
    """Whoever comes back isn't deleted."""
    return row.set(deleted_at=None)


@transform(
    old={"public.orders": "id", "public.order_notes": "order_id"},
    upgraded="crm.orders",
    key=KeyMap(lambda number: uuid5(ORDERS, str(number)), sequence="public.orders_id_seq"),
)
def order(order: Aggregate) -> Row:
    """An order takes in its notes, and gets a UUID for its number; what refers to orders follows by `references`."""
    notes = sorted(order["public.order_notes"], key=lambda note: note["id"])
    return order.root.rename(ordered_at="placed_at").set(notes=[note_document(note) for note in notes])


@order.inverse
def order_back(row: Row) -> Iterable[Row]:
    """The notes get their table back. The number is the key map's business: the one it had, or a new one."""
    yield row.to("public.orders").drop("notes").rename(placed_at="ordered_at")
    for note in row["notes"]:
        yield note_row(note)


def note_document(note: Row) -> dict[str, object]:
    """One note as it stands in `crm.orders.notes`; the time as PostgreSQL prints it, so that any comes back."""
    return {
        "id": note["id"],
        "author": note["author"],
        "body": note["body"],
        "written_at": note.raw("written_at"),
    }


def note_row(note: dict[str, object]) -> Row:
    """One note as a row again; without an id, when the upgraded application wrote it."""
    return Row.of("public.order_notes", note | {"written_at": RawText(note["written_at"])})
