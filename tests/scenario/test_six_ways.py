"""The same statements by each way that a change can take: the same rows arrive, as text."""

import os
import textwrap

import pytest

from tests import fix_pipeline
from tests.every_type import NO_XML, SCHEMA, VALUES
from tests.fix_pipeline import MakePipeline, Pipeline
from tests.fix_postgres import Database
from tests.scenario.test_types import literal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WAYS = [way for way in fix_pipeline.WAYS if way != "capture-json-without-schema"]
"""Schemas or not are one matter for our capture, which writes the same values."""
NOT_BY_DEBEZIUM = {
    "time(0) with time zone",
    "bit varying(5)",
    "interval[]",
    "numeric(6,2)[]",
    "oidvector",
    "int2vector",
}
"""It sends another value than it was shown, and `plan` refuses the type; or stops at some values (NaN in an array)."""
SPARED = {"[0:1]={5,6}", "{{1,2},{3,4}}", "public.citext", "294276-12-31 23:59:59.999999"}
"""Arrays of more dimensions it writes as NULLs, which is refused; where one begins it doesn't tell. A regtype comes as
its session's search_path has it, without `public`, which is no type here. A time of so late a year has more
microseconds than 64 bits, and is refused.
"""
OLD_MAJOR = int(os.environ.get("REPLICATOR_OLD_MAJOR", "15"))
TYPES = [
    name
    for name in VALUES
    if name not in NO_XML | NOT_BY_DEBEZIUM and (OLD_MAJOR >= 14 or "multirange" not in name)  # which 13 lacks
]
COLUMNS = ", ".join(f"c{at} {name}" for at, name in enumerate(TYPES))
TABLES = f"""
    {SCHEMA}
    CREATE TABLE crm.here (n int PRIMARY KEY);
    CREATE TABLE crm.everything (id int PRIMARY KEY, {COLUMNS});
    CREATE TABLE crm.refused (id int PRIMARY KEY, a time(0) with time zone, b bit varying(5), c interval[],
        d numeric(6,2)[], e oidvector, i int2vector, f int[], g regtype,
        h timestamp);
    CREATE TABLE crm.parents (id bigint PRIMARY KEY, name text UNIQUE, note text);
    CREATE TABLE crm.children (parent_id bigint REFERENCES crm.parents ON UPDATE CASCADE, n int, v numeric(9,2),
        at timestamptz, PRIMARY KEY (parent_id, n));
    CREATE TABLE crm.whole (id uuid PRIMARY KEY, big text, also jsonb, tags text[]);
    ALTER TABLE crm.whole REPLICA IDENTITY FULL;
    CREATE TABLE crm.emptied (id int PRIMARY KEY, v text);
    CREATE TABLE crm."Odd name" ("Id" int PRIMARY KEY, "a b" text, "1st" int);
"""
NAMES = ("crm.everything", "crm.parents", "crm.children", "crm.whole", "crm.emptied", 'crm."Odd name"')


def values(row: int) -> list[tuple[int, str]]:
    """The columns that have a value of this number, and its literal."""
    return [
        (at, literal(name, VALUES[name][row]))
        for at, name in enumerate(TYPES)
        if row < len(VALUES[name]) and VALUES[name][row] not in SPARED
    ]


def insert(first: int) -> str:
    statements = []
    for row in range(max(map(len, VALUES.values())) + 1):
        given = values(row)
        names = ", ".join(["id", *(f"c{at}" for at, _ in given)])
        statements.append(
            f"INSERT INTO crm.everything ({names}) "
            f"VALUES ({', '.join([str(first + row), *(value for _, value in given)])});"
        )
    return "".join(statements)


REFUSED = """
    INSERT INTO crm.refused VALUES (1,
        '23:59:59+15:59', B'', '{"1 mon","-00:00:01"}', '{1.50,NaN}', '1 2 3', '1 -2',
        '{{1,2},{3,4}}', 'public.citext',
        '294276-12-31 23:59:59.999999'),
        (2, '00:00:00-08', B'00101', '{}', NULL, '', '', '[0:1]={5,6}', NULL, NULL)
"""
BEFORE = """
    INSERT INTO crm.parents SELECT n, 'p' || n, repeat(md5(n::text), 200) FROM generate_series(1, 40) n

    INSERT INTO crm.children SELECT 1 + n % 40, n, n / 7.0 FROM generate_series(1, 200) n

    INSERT INTO crm.emptied SELECT n, 'before' FROM generate_series(1, 10) n
"""
CHANGES = """
    INSERT INTO crm.whole SELECT gen_random_uuid(),
        (SELECT string_agg(md5(n::text || m), '') FROM generate_series(1, 300) m),
        jsonb_build_object('n', n), ARRAY['t' || n, NULL] FROM generate_series(1, 20) n

    INSERT INTO crm."Odd name" VALUES (1, 'é', 5), (2, NULL, NULL)

    UPDATE crm.parents SET name = 'q' || id WHERE id % 3 = 0

    UPDATE crm.parents SET id = 1000 + id WHERE id % 5 = 0

    BEGIN; UPDATE crm.parents SET name = 'swap' WHERE id = 1; UPDATE crm.parents SET name = 'p1' WHERE id = 2;
        UPDATE crm.parents SET name = 'p2' WHERE id = 1; COMMIT

    UPDATE crm.whole SET also = also || '{"later": 1.50}'

    UPDATE crm.whole SET big = 'small' WHERE (also->>'n')::int < 5

    DELETE FROM crm.children WHERE n % 4 = 0

    DELETE FROM crm.whole WHERE (also->>'n')::int > 15

    UPDATE crm."Odd name" SET "Id" = 3, "a b" = '__debezium_unavailable_value' WHERE "Id" = 2

    BEGIN; INSERT INTO crm.emptied VALUES (11, 'x'); TRUNCATE crm.emptied;
        INSERT INTO crm.emptied VALUES (12, 'y'); COMMIT

    BEGIN; INSERT INTO crm.parents VALUES (500, 'gone'); ROLLBACK
"""


def change(old: Database, script: str) -> None:
    for paragraph in textwrap.dedent(script).strip().split("\n\n"):
        old.execute(paragraph)


def interleave(old: Database) -> None:
    """Transactions that run beside each other, and commit in another order than they began."""
    with old.connect() as first, old.connect() as second, old.connect() as third:
        first.execute("INSERT INTO crm.parents VALUES (601, 'first')")
        second.execute("INSERT INTO crm.parents VALUES (602, 'second')")
        second.execute("UPDATE crm.parents SET note = 'seen by second' WHERE id = 3")
        third.execute("DELETE FROM crm.children WHERE parent_id = 4")
        first.execute("INSERT INTO crm.children VALUES (601, 1, 0.10)")
        third.commit()
        second.execute("SAVEPOINT s; INSERT INTO crm.parents VALUES (603, 'never'); ROLLBACK TO s")
        second.execute("INSERT INTO crm.children VALUES (602, 1, 0.20, now())")
        second.commit()
        first.execute("UPDATE crm.parents SET note = 'seen by first' WHERE id = 3")
        first.commit()


def assert_equal(pipelines: list[Pipeline]) -> None:
    """Each column of each table as text, on the old side and all upgraded ones."""
    old = pipelines[0].shop.old
    for one in pipelines:
        columns = ", ".join(f"c{at}::text" for at in range(len(TYPES)))
        query = f"SELECT id, {columns} FROM crm.everything ORDER BY id"
        there, here = old.execute(query), one.shop.upgraded.execute(query)
        for at, name in enumerate(["id", *TYPES]):
            assert [(name, row[0], row[at]) for row in there] == [(name, row[0], row[at]) for row in here], one.way
        for table in NAMES:
            one.shop.same_tables(table)
        if not one.way.startswith("debezium"):
            one.shop.same_tables("crm.refused")


def test_the_same_rows_by_each_way(pipeline: MakePipeline, old15_database: Database) -> None:
    """Every type, every operation, by slot, our capture and Debezium, in JSON and Avro: no upgraded side differs."""
    old = old15_database
    old.execute(TABLES)
    change(old, BEFORE)
    old.execute(insert(0))
    mapped = [f"- {{old: '{name}'}}" for name in NAMES]
    pipelines = [
        pipeline(
            way,
            old=old,
            upgraded_schema=TABLES,
            tables="\n".join([*mapped, *([] if way.startswith("debezium") else ["- {old: crm.refused}"])]),
            captured=",".join(name.replace(".", r"\.").replace('"', "") for name in NAMES),
        )
        for way in WAYS
    ]
    for one in pipelines:
        one.shop.streaming()
    assert_equal(pipelines)

    change(old, CHANGES)
    change(old, REFUSED)
    interleave(old)
    old.execute(insert(100))
    updates = ";".join(
        f"UPDATE crm.everything SET {', '.join(f'c{at} = {value}' for at, value in values(row))} WHERE id = {100 + row}"
        for row in range(1, max(map(len, VALUES.values())))
    )
    old.execute(
        f"{updates}; UPDATE crm.everything SET id = id + 1000 WHERE id > 102; DELETE FROM crm.everything WHERE id < 2"
    )
    for one in pipelines:
        one.shop.catch_up()
    assert_equal(pipelines)

    ddl = "ALTER TABLE crm.parents ADD COLUMN late numeric(6,2)"
    for one in pipelines:
        one.shop.upgraded.execute(ddl)
    old.execute(ddl)
    old.execute("INSERT INTO crm.parents (id, name, late) VALUES (701, 'late', 2.25), (702, 'later', NULL)")
    old.execute("UPDATE crm.parents SET late = id / 10.0 WHERE id < 10")
    for one in pipelines:
        one.shop.catch_up()
    assert_equal(pipelines)
