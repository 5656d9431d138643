"""P4, P5: a value of any type goes the whole way, from an older server, as the source printed it."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.every_type import NO_XML, SCHEMA, VALUES
from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import Database

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]

TYPES = [name for name in VALUES if name not in NO_XML]
ODD_SESSION = """
    SET DateStyle = 'German, DMY'; SET IntervalStyle = 'iso_8601'; SET TimeZone = 'Asia/Kathmandu';
    SET bytea_output = 'escape'; SET extra_float_digits = -15;
"""


def literal(type_name: str, value: str | None) -> str:
    if value is None:
        return "NULL"
    quoted = value.replace("'", "''")
    return f"'{quoted}'::{type_name}"


def rows_of_values() -> Iterator[list[tuple[int, str]]]:
    """For each row the columns that have a value, and its literal; the last row is all NULL."""
    for row in range(max(map(len, VALUES.values())) + 1):
        yield [(at, literal(name, VALUES[name][row])) for at, name in enumerate(TYPES) if row < len(VALUES[name])]


def insert(first: int) -> str:
    statements = []
    for row, given in enumerate(rows_of_values(), first):
        names = ", ".join(["id", *(f"c{at}" for at, _ in given)])
        values = ", ".join([str(row), *(value for _, value in given)])
        statements.append(f"INSERT INTO crm.everything ({names}) VALUES ({values});")
    return "".join(statements)


def assert_same_values(shop: Migration) -> None:
    """Each column as text, whatever its type: a difference names it."""
    columns = ", ".join(f"c{at}::text" for at in range(len(TYPES)))
    query = f"SELECT id, {columns} FROM crm.everything ORDER BY id"
    there, here = shop.old.execute(query), shop.upgraded.execute(query)
    for at, name in enumerate(["id", *TYPES]):
        assert [(name, row[0], row[at]) for row in there] == [(name, row[0], row[at]) for row in here]
    assert there


def test_every_type_goes_the_whole_way(migrate: Migrate, old15_database: Database) -> None:
    """Copy, insert, update, key update and delete take each value of each type from 15 to 18 as it was."""
    columns = ", ".join(f"c{at} {name}" for at, name in enumerate(TYPES))
    shop = migrate(
        f"{SCHEMA} CREATE TABLE crm.here (n int PRIMARY KEY);"
        f"CREATE TABLE crm.everything (id int PRIMARY KEY, {columns})",
        old=old15_database,
        tables='- {old: "crm.*"}',
    )
    shop.old.execute(insert(0))
    count = len(list(rows_of_values()))
    shop.streaming()
    assert_same_values(shop)

    given = [", ".join(f"c{at} = {value}" for at, value in row) for row in rows_of_values()]
    nulls = ", ".join(f"c{at} = NULL" for at in range(len(TYPES)))
    shop.old.execute(f"{ODD_SESSION} {insert(count)} {insert(2 * count)}")
    shop.catch_up()
    assert_same_values(shop)

    shop.old.execute(f"UPDATE crm.everything SET {nulls} WHERE id >= {count}")
    shop.catch_up()
    assert_same_values(shop)

    updates = ";".join(
        f"UPDATE crm.everything SET {changes} WHERE id % {count} = {row}"
        for row, changes in enumerate(given)
        if changes
    )
    shop.old.execute(
        f"{updates}; UPDATE crm.everything SET id = id + 1000 WHERE id >= {2 * count};"
        f"DELETE FROM crm.everything WHERE id < {count}"
    )
    shop.catch_up()
    assert_same_values(shop)


def test_every_type_as_a_key(migrate: Migrate, old15_database: Database) -> None:
    """A key of any type that can be one: its rows are copied in ranges, inserted, updated, re-keyed and deleted."""
    tables, keyed = [SCHEMA, "CREATE TABLE crm.here (n int PRIMARY KEY);"], []
    for at, name in enumerate(TYPES):
        if can_be_key(old15_database, name):
            tables.append(f"CREATE TABLE crm.k{at} (k {name}, n int, PRIMARY KEY (k));")
            keyed.append((at, name))
    shop = migrate("".join(tables), old=old15_database, tables='- {old: "crm.*"}', options="backfill: {chunk_rows: 1}")
    assert len(keyed) > 60
    for at, name in keyed:
        values = [(literal(name, value), n) for n, value in enumerate(VALUES[name])]
        rows = ", ".join(f"({value}, {n})" for value, n in values)
        shop.old.execute(f"INSERT INTO crm.k{at} VALUES {rows} ON CONFLICT DO NOTHING")
    names = [f"crm.k{at}" for at, _ in keyed]
    shop.streaming()
    shop.same_tables(*names)

    with shop.old.connect() as session:
        session.execute(ODD_SESSION.encode())
        for at, name in keyed:
            first = literal(name, VALUES[name][0])
            last = literal(name, VALUES[name][-1])
            session.execute(f"UPDATE crm.k{at} SET n = n + 100".encode())
            session.execute(f"DELETE FROM crm.k{at} WHERE k = {last}".encode())
            session.execute(f"INSERT INTO crm.k{at} VALUES ({last}, 7)".encode())
            if first != last:  # a key moves to the place of another
                session.execute(f"DELETE FROM crm.k{at} WHERE k = {first}".encode())
                session.execute(f"UPDATE crm.k{at} SET k = {first} WHERE k = {last}".encode())
    shop.catch_up()
    shop.same_tables(*names)

    for at, _ in keyed:
        shop.old.execute(f"DELETE FROM crm.k{at}")
    shop.catch_up()
    shop.same_tables(*names)


def can_be_key(database: Database, name: str) -> bool:
    """Whether a btree takes it: the server knows."""
    with database.connect() as session:
        try:
            session.execute(f"{SCHEMA} CREATE TABLE crm.here (); CREATE TABLE t (k {name} PRIMARY KEY)".encode())
        except psycopg.errors.UndefinedObject:
            return False
        finally:
            session.rollback()
    return True
