"""What the application of the demo does to its old database: one function a business operation, each one transaction.

Together they do what makes replication hard: keys that change, also of rows with big values that the change stream
leaves out; children that move to another parent; unique values that are exchanged; rows that come back under a key
that was deleted; savepoints that are rolled back; cascades.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import psycopg

from replicator.demo.seed import FIRST_NAMES, LAST_NAMES

STAFF = 5
"""Users whose id is a multiple of this keep id and role, so that their permissions must keep their ids as well."""
NO_STAFF = f"id % {STAFF} > 0"


@dataclass(frozen=True, slots=True)
class Client:
    """One session of the application.

    Attributes:
        connection: in autocommit; the caller has opened the operation's transaction.
        random: makes every choice.

    """

    connection: psycopg.Connection[tuple[Any, ...]]
    random: Random

    def run(self, statement: str, *values: object) -> Any:
        """Execute; returns the first column of the first row, None where there is none."""
        cursor = self.connection.execute(statement.encode(), values or None)
        row = cursor.fetchone() if cursor.description else None
        return None if row is None else row[0]

    def pick(self, table: str, where: str = "true") -> Any:
        """The id of a row of `table`, at random."""
        start = f"SELECT (random() * max(id))::bigint FROM public.{table}"
        return self.run(f"SELECT id FROM public.{table} WHERE id >= ({start}) AND {where} ORDER BY id LIMIT 1")

    def pick_sku(self) -> Any:
        """A product's key, at random."""
        return self.run("SELECT sku FROM public.products WHERE sku >= %s ORDER BY sku LIMIT 1", self.sku())

    def sku(self) -> str:
        """A product's key that may or may not be taken."""
        return f"SKU-{self.random.randrange(1_000_000):06d}" if self.random.random() < 0.2 else self._seeded_sku()

    def _seeded_sku(self) -> str:
        return f"SKU-{self.random.randrange(1_000):06d}"

    def name(self) -> str:
        """A person's name."""
        return f"{self.random.choice(FIRST_NAMES)} {self.random.choice(LAST_NAMES)}"

    def amount(self) -> str:
        """An amount of money."""
        return f"{self.random.randrange(100, 300_000) / 100:.2f}"

    def document(self) -> str:
        """A text of about 5 KB that doesn't compress: it is stored out of line."""
        return self.random.randbytes(2_500).hex()


Operation = Callable[[Client], None]


def place_order(client: Client) -> None:
    """An order with its items, its total, and sometimes a note and a long contract."""
    contract = client.document() if client.random.random() < 0.2 else None
    order = client.run(
        "INSERT INTO public.orders (account_id, contract) VALUES (%s, %s) RETURNING id",
        client.pick("accounts"),
        contract,
    )
    for line in range(1, client.random.randint(2, 4)):
        _add_item(client, order, line)
    with client.connection.transaction() as savepoint:  # a voucher that turns out to be void
        _add_item(client, order, 99)
        client.run("UPDATE public.orders SET state = 'voucher', total = -1 WHERE id = %s", order)
        raise psycopg.Rollback(savepoint)
    client.run(
        "UPDATE public.orders SET total = (SELECT coalesce(sum(quantity * price), 0) FROM public.order_items"
        " WHERE order_id = %s) WHERE id = %s",
        order,
        order,
    )
    if client.random.random() < 0.3:
        _add_note(client, order)


def _add_item(client: Client, order: int, line: int) -> None:
    client.run(
        "INSERT INTO public.order_items SELECT %s, %s, sku, %s, price FROM public.products WHERE sku = %s",
        order,
        line,
        client.random.randint(1, 9),
        client.pick_sku(),
    )


def _add_note(client: Client, order: int) -> None:
    client.run(
        "INSERT INTO public.order_notes (order_id, author, body) VALUES (%s, %s, %s)",
        order,
        client.name(),
        client.random.choice(("Ring twice", 'He said "later"', "Zurück am 3.\tMai", "back\\slash, 絵文字 🙂", "")),
    )


def pay_order(client: Client) -> None:
    """A payment; the order becomes paid, and its contract isn't touched."""
    order = client.pick("orders")
    method = client.random.choice(("card", "transfer", "cash"))
    client.run(
        "INSERT INTO public.payments (order_id, amount, method) VALUES (%s, %s, %s)", order, client.amount(), method
    )
    client.run("UPDATE public.orders SET state = 'paid' WHERE id = %s", order)


def ship_order(client: Client) -> None:
    """Another state, and another contract now and then."""
    client.run("UPDATE public.orders SET state = 'shipped' WHERE id = %s", client.pick("orders"))
    if client.random.random() < 0.1:
        client.run("UPDATE public.orders SET contract = %s WHERE id = %s", client.document(), client.pick("orders"))


def write_note(client: Client) -> None:
    """A note more."""
    _add_note(client, client.pick("orders"))


def move_note(client: Client) -> None:
    """A note that stood at the wrong order goes to another one: both orders change."""
    client.run(
        "UPDATE public.order_notes SET order_id = %s WHERE id = %s", client.pick("orders"), client.pick("order_notes")
    )


def delete_note(client: Client) -> None:
    """A note less."""
    client.run("DELETE FROM public.order_notes WHERE id = %s", client.pick("order_notes"))


def change_items(client: Client) -> None:
    """Quantities change, one item goes, and the others get new line numbers: their keys change."""
    order = client.pick("orders")
    client.run("UPDATE public.order_items SET quantity = quantity %% 9 + 1 WHERE order_id = %s", order)
    client.run("DELETE FROM public.order_items WHERE order_id = %s AND line %% 5 = 4", order)
    client.run("UPDATE public.order_items SET line = line + 10 WHERE order_id = %s AND line <= 10", order)


def renumber_order(client: Client) -> None:
    """An order gets another number: its key changes, and by cascade its items, notes and payments."""
    client.run("UPDATE public.orders SET id = nextval('public.orders_id_seq') WHERE id = %s", client.pick("orders"))


def cancel_order(client: Client) -> None:
    """An order is deleted, with all that belongs to it."""
    client.run("DELETE FROM public.orders WHERE id = %s", client.pick("orders"))


def register_user(client: Client) -> None:
    """A new user."""
    client.run(
        "INSERT INTO public.users (account_id, full_name, email, role)"
        " VALUES (%s, %s, %s, (%s::text)::public.user_role)",
        client.pick("accounts"),
        client.name(),
        f"{client.random.randbytes(6).hex()}@example.org",
        client.random.choice(("viewer", "editor", "admin")),
    )


def edit_user(client: Client) -> None:
    """A login, and sometimes another name."""
    user = client.pick("users")
    client.run("UPDATE public.users SET last_login = clock_timestamp() WHERE id = %s", user)
    if client.random.random() < 0.3:
        client.run("UPDATE public.users SET full_name = %s WHERE id = %s", client.name(), user)


def change_role(client: Client) -> None:
    """More or fewer permissions."""
    role = client.random.choice(("suspended", "viewer", "editor", "admin"))
    client.run(
        "UPDATE public.users SET role = (%s::text)::public.user_role WHERE id = %s",
        role,
        client.pick("users", NO_STAFF),
    )


def delete_user(client: Client) -> None:
    """A user less."""
    client.run("DELETE FROM public.users WHERE id = %s", client.pick("users", NO_STAFF))


def renumber_user(client: Client) -> None:
    """A user gets another id: its key changes, with its permissions."""
    client.run(
        "UPDATE public.users SET id = nextval('public.users_id_seq') WHERE id = %s", client.pick("users", NO_STAFF)
    )


def exchange_emails(client: Client) -> None:
    """Two users exchange a unique value, in three steps as the index demands."""
    found = client.connection.execute(
        "SELECT id, email FROM public.users WHERE id = ANY(%s) ORDER BY id FOR UPDATE",
        ([client.pick("users"), client.pick("users")],),
    ).fetchall()
    if len(found) < 2:
        return
    (one, first), (other, second) = found
    for user, email in ((one, f"moving-{one}"), (other, first), (one, second)):
        client.run("UPDATE public.users SET email = %s WHERE id = %s", email, user)


def edit_account(client: Client) -> None:
    """An account moves, and another of its contacts answers the phone."""
    account = client.pick("accounts")
    city = client.random.choice(("Zürich", "Łódź", "São Paulo", None))
    client.run("UPDATE public.accounts SET city = %s, fax = %s WHERE id = %s", city, client.amount(), account)
    client.run(
        "UPDATE public.accounts SET primary_contact_id ="
        " (SELECT id FROM public.contacts WHERE account_id = %s AND deleted_at IS NULL LIMIT 1 FOR SHARE)"
        " WHERE id = %s",
        account,
        account,
    )


def add_contact(client: Client) -> None:
    """A new contact of an account."""
    client.run("INSERT INTO public.contacts (account_id, name) VALUES (%s, %s)", client.pick("accounts"), client.name())


def delete_contact(client: Client) -> None:
    """A contact is marked as deleted, and is nobody's first any more."""
    contact = client.pick("contacts", "deleted_at IS NULL")
    client.run("UPDATE public.contacts SET deleted_at = clock_timestamp() WHERE id = %s", contact)
    client.run("UPDATE public.accounts SET primary_contact_id = NULL WHERE primary_contact_id = %s", contact)


def restore_contact(client: Client) -> None:
    """A deleted contact comes back."""
    contact = client.pick("contacts", "deleted_at IS NOT NULL")
    client.run("UPDATE public.contacts SET deleted_at = NULL, phone = NULL WHERE id = %s", contact)


def purge_contact(client: Client) -> None:
    """A deleted contact's row goes at last."""
    client.run("DELETE FROM public.contacts WHERE id = %s", client.pick("contacts", "deleted_at IS NOT NULL"))


def renumber_contact(client: Client) -> None:
    """A contact gets another id, deleted or not: its key changes, and by cascade the account that it is first of."""
    client.run(
        "UPDATE public.contacts SET id = nextval('public.contacts_id_seq') WHERE id = %s", client.pick("contacts")
    )


def reprice(client: Client) -> None:
    """Another price; the long description isn't touched."""
    client.run("UPDATE public.products SET price = %s WHERE sku = %s", client.amount(), client.pick_sku())


def rename_product(client: Client) -> None:
    """Another key for a row whose long description isn't touched."""
    client.run("UPDATE public.products SET sku = %s WHERE sku = %s", client.sku(), client.pick_sku())


def exchange_keys(client: Client) -> None:
    """Two products exchange their keys, and each keeps its description."""
    found = client.connection.execute(
        "SELECT sku FROM public.products WHERE sku = ANY(%s) ORDER BY sku FOR UPDATE",
        ([client.pick_sku(), client.pick_sku()],),
    ).fetchall()
    if len(found) < 2:
        return
    (one,), (other,) = found
    for old, new in ((one, f"moving {one}"), (other, one), (f"moving {one}", other)):
        client.run("UPDATE public.products SET sku = %s WHERE sku = %s", new, old)


def stocktaking(client: Client) -> None:
    """A few hundred rows in one transaction."""
    start = client.pick("orders")
    client.run(
        "UPDATE public.order_items SET quantity = quantity %% 9 + 1 WHERE order_id BETWEEN %s AND %s",
        start,
        (start or 0) + 120,
    )


OPERATIONS: dict[Operation, int] = {
    place_order: 16,
    pay_order: 22,
    ship_order: 8,
    write_note: 5,
    move_note: 4,
    delete_note: 3,
    change_items: 6,
    renumber_order: 2,
    cancel_order: 2,
    register_user: 8,
    edit_user: 10,
    change_role: 5,
    delete_user: 3,
    renumber_user: 1,
    exchange_emails: 3,
    edit_account: 5,
    add_contact: 4,
    delete_contact: 3,
    restore_contact: 2,
    purge_contact: 1,
    renumber_contact: 1,
    reprice: 5,
    rename_product: 1,
    exchange_keys: 1,
    stocktaking: 1,
}
"""How often each is chosen, in proportion."""
