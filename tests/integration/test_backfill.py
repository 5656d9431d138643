"""The initial copy between real servers: what is copied, by which way, and what is refused."""

from collections.abc import Iterable
from typing import Any

import pytest

from replicator import Aggregate, KeyMap, Row, transform
from replicator.errors import ErrorKind, ReplicatorError
from replicator.telemetry import BackfillState
from tests.copying import World, open_world, rows_of
from tests.fix_postgres import Database
from tests.values import TYPES_AND_VALUES

T = "CREATE TABLE t (id bigint PRIMARY KEY, name text, number int)"
PARTITIONED = """
    CREATE TABLE t (id int PRIMARY KEY, b text) PARTITION BY RANGE (id);
    CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (50);
    CREATE TABLE t2 PARTITION OF t DEFAULT PARTITION BY HASH (id);
    CREATE TABLE t20 PARTITION OF t2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE t21 PARTITION OF t2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
"""


def both(old: Database, upgraded: Database, ddl: str) -> None:
    for database in (old, upgraded):
        database.execute(ddl)


class AsRole:
    """A database as another role sees it."""

    def __init__(self, database: Database, role: str) -> None:
        self.name = database.name
        self.dsn = f"{database.dsn}?user={role}" if "?" not in database.dsn else f"{database.dsn}&user={role}"


async def copy(old: Database, upgraded: Database, *rest: Any, **settings: Any) -> World:
    """Run a backfill to its end."""
    async with open_world(old, upgraded, *rest, **settings) as world:
        await world.backfill.run()
    return world


async def test_every_type_comes_as_it_was_printed(old15_database: Database, upgraded_database: Database) -> None:
    """COPY to COPY, from 15 to 18, changes no byte of any built-in type, of text least of all."""
    columns = ", ".join(f"c{at} {name}" for at, (name, _) in enumerate(TYPES_AND_VALUES))
    both(old15_database, upgraded_database, f"CREATE TABLE t (id bigint PRIMARY KEY, {columns})")
    with old15_database.connect() as connection:
        for at, (_, values) in enumerate(TYPES_AND_VALUES):
            for value in values:
                connection.execute(
                    f"INSERT INTO t (id, c{at}) SELECT count(*), %s FROM t",
                    [value],
                )
    await copy(old15_database, upgraded_database, chunk_rows=50)
    assert rows_of(old15_database) == rows_of(upgraded_database)
    assert len(rows_of(upgraded_database)) == sum(len(values) for _, values in TYPES_AND_VALUES)


async def test_columns_are_renamed_and_dropped(old_database: Database, upgraded_database: Database) -> None:
    """A table with other names gets the columns that are left, and computes its generated one itself."""
    old_database.execute("CREATE TABLE t (id bigint PRIMARY KEY, iso text, legacy int, gone text)")
    old_database.execute("ALTER TABLE t DROP gone; INSERT INTO t SELECT n, 'c' || n, n FROM generate_series(1, 9) n")
    upgraded_database.execute(
        "CREATE SCHEMA ref; CREATE TABLE ref.countries (extra int DEFAULT 7, "
        "iso_code text, id bigint PRIMARY KEY, big text GENERATED ALWAYS AS (upper(iso_code)) STORED)"
    )
    entry = {"old": "public.t", "upgraded": "ref.countries", "columns": {"iso": "iso_code"}, "drop": ["legacy"]}
    await copy(old_database, upgraded_database, [entry])
    assert [(7, f"c{n}", n, f"C{n}") for n in range(1, 10)] == upgraded_database.execute(
        "SELECT * FROM ref.countries ORDER BY id"
    )


async def test_identity_columns_take_the_values_of_the_source(
    old_database: Database, upgraded_database: Database
) -> None:
    """GENERATED ALWAYS AS IDENTITY makes no number of its own, neither by COPY nor through the staging table."""
    both(
        old_database,
        upgraded_database,
        "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text);"
        "CREATE TABLE u (id int PRIMARY KEY, serial bigint GENERATED ALWAYS AS IDENTITY, name text)",
    )
    old_database.execute(
        "INSERT INTO t OVERRIDING SYSTEM VALUE SELECT n * 10, n::text FROM generate_series(1, 5) n;"
        "INSERT INTO u OVERRIDING SYSTEM VALUE SELECT n, n * 10, n::text FROM generate_series(1, 5) n"
    )
    upgraded_database.execute("INSERT INTO u VALUES (1, DEFAULT, 'other')")
    await copy(old_database, upgraded_database)
    assert rows_of(old_database) == rows_of(upgraded_database)
    assert rows_of(old_database, "u") == rows_of(upgraded_database, "u")


async def test_rows_that_are_there_are_replaced(old_database: Database, upgraded_database: Database) -> None:
    """A target that isn't empty ends with the source's rows: equal ones untouched, others changed or added."""
    both(old_database, upgraded_database, T)
    old_database.execute("INSERT INTO t SELECT n, 'new', n FROM generate_series(1, 100) n")
    upgraded_database.execute(
        "INSERT INTO t SELECT n, CASE WHEN n < 20 THEN 'new' END, n FROM generate_series(1, 40) n"
    )
    before = upgraded_database.execute("SELECT xmin::text FROM t WHERE name = 'new' ORDER BY id")
    await copy(old_database, upgraded_database, chunk_rows=30)
    assert rows_of(old_database) == rows_of(upgraded_database)
    assert before == upgraded_database.execute("SELECT xmin::text FROM t WHERE id < 20 ORDER BY id")


async def test_deferrable_key(old_database: Database, upgraded_database: Database) -> None:
    """A key that ON CONFLICT can't name is no obstacle, with rows in the target or without."""
    both(old_database, upgraded_database, "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, name text)")
    old_database.execute("INSERT INTO t SELECT n, n::text FROM generate_series(1, 9) n")
    upgraded_database.execute("INSERT INTO t VALUES (3, 'three'), (4, '4')")
    await copy(old_database, upgraded_database)
    assert rows_of(old_database) == rows_of(upgraded_database)


@pytest.mark.parametrize(
    "ddl, rows",
    [
        ("CREATE TABLE t (a int, b text, c int, PRIMARY KEY (b, a))", "SELECT n % 10, n::text, n"),
        ('CREATE TABLE t (a text COLLATE "pg_unicode_fast" PRIMARY KEY)', "SELECT chr(65 + n % 60) || md5(n::text)"),
        ("CREATE TABLE t (a timestamptz PRIMARY KEY, b int)", "SELECT now() + n * interval '1 day', n"),
        ("CREATE TABLE t (a numeric PRIMARY KEY)", "SELECT n / 7.0"),
        ("CREATE TABLE t (a bytea PRIMARY KEY)", "SELECT decode(md5(n::text), 'hex')"),
        ("CREATE TABLE t (a text PRIMARY KEY)", "SELECT repeat(md5(n::text), 60)"),
        (PARTITIONED, "SELECT n, n::text"),
        ('CREATE TABLE t ("Ke"" y%s {}" int PRIMARY KEY, "select" text)', "SELECT n, '%s {}' || n"),
    ],
    ids=["composite", "collation", "timestamptz", "numeric", "bytea", "wide", "partitioned", "quoted"],
)
async def test_chunks_follow_any_key(old_database: Database, upgraded_database: Database, ddl: str, rows: str) -> None:
    """Whatever the key, its chunks meet without a gap and without an overlap."""
    both(old_database, upgraded_database, ddl)
    old_database.execute(f"INSERT INTO t {rows} FROM generate_series(1, 200) n")
    world = await copy(old_database, upgraded_database, chunk_rows=7)
    assert rows_of(old_database) == rows_of(upgraded_database)
    progress = world.status.backfill["public.t"]
    assert (200, 29, BackfillState.DONE) == (progress.rows_done, progress.chunks_done, progress.state)


async def test_empty_tables_and_many(old_database: Database, upgraded_database: Database) -> None:
    """A few hundred tables, most of them empty, are copied over the same few sessions, and all are complete."""
    both(
        old_database,
        upgraded_database,
        "DO $$ BEGIN FOR n IN 1 .. 200 LOOP"
        "  EXECUTE format('CREATE TABLE t%s (id bigint PRIMARY KEY, name text)', n);"
        "END LOOP; END $$",
    )
    old_database.execute("INSERT INTO t7 VALUES (1, 'seven')")
    async with open_world(old_database, upgraded_database, workers=3) as world:
        await world.backfill.run()
        sessions = old_database.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        copied = await world.store.load("backfill")
    assert sessions[0][0] <= 3 + 1
    assert 200 == sum(table.complete for table in copied.values())
    assert rows_of(old_database, "t7") == rows_of(upgraded_database, "t7")


async def test_nothing_is_left_to_do(old_database: Database, upgraded_database: Database) -> None:
    """A backfill that is complete copies nothing again, and knows the position to wait for."""
    both(old_database, upgraded_database, T)
    old_database.execute("INSERT INTO t VALUES (1, 'a', 1)")
    async with open_world(old_database, upgraded_database) as world:
        lsn = await world.backfill.run()
        upgraded_database.execute("DELETE FROM t")
        assert lsn == await world.backfill.run()
    assert [] == rows_of(upgraded_database)


async def test_a_data_error_names_its_row_and_the_rest_goes_on(
    old_database: Database, upgraded_database: Database
) -> None:
    """One value that doesn't fit stops its chunk alone, and says table and key; mended, only its chunk is copied."""
    old_database.execute(T + ";CREATE TABLE u (id int PRIMARY KEY)")
    upgraded_database.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, name text CHECK (name <> 'bad'), number int);"
        "CREATE TABLE u (id int PRIMARY KEY)"
    )
    old_database.execute(
        "INSERT INTO t SELECT n, CASE n WHEN 55 THEN 'bad' ELSE 'ok' END, n FROM generate_series(1, 100) n"
    )
    old_database.execute("INSERT INTO u VALUES (1)")
    async with open_world(old_database, upgraded_database, chunk_rows=10) as world:
        with pytest.raises(ReplicatorError) as caught:
            await world.backfill.run()
        assert (ErrorKind.DATA, "public.t", ("55",)) == (caught.value.kind, caught.value.table, caught.value.key)
        assert BackfillState.FAILED is world.status.backfill["public.t"].state
        assert [(90,)] == upgraded_database.execute("SELECT count(*) FROM t")
        assert rows_of(old_database, "u") == rows_of(upgraded_database, "u")
        old_database.execute("UPDATE t SET name = 'mended' WHERE id = 55")
        upgraded_database.execute("UPDATE t SET name = 'untouched' WHERE id = 1")
        await world.backfill.run()
    assert [("untouched",), ("mended",)] == upgraded_database.execute(
        "SELECT name FROM t WHERE id IN (1, 55) ORDER BY id"
    )
    assert [(100,)] == upgraded_database.execute("SELECT count(*) FROM t")


async def test_a_data_error_is_parked(old_database: Database, upgraded_database: Database) -> None:
    """With the dead letter queue the one row is parked, with its values, and its chunk is copied."""
    old_database.execute(T)
    upgraded_database.execute("CREATE TABLE t (id bigint PRIMARY KEY, name varchar(5), number int)")
    old_database.execute(
        "INSERT INTO t SELECT n, CASE n WHEN 5 THEN 'too long' ELSE 'ok' END, n FROM generate_series(1, 9) n"
    )
    entry = {"old": "public.t", "lossy": ["name"]}
    async with open_world(old_database, upgraded_database, [entry], dead_letters=True) as world:
        await world.backfill.run()
        (letter,) = await world.target.dead_letters()
    assert ("public.t", (b"5",), "r", "data") == (letter.mapping, letter.key, letter.op, letter.kind)
    assert {"id": "5", "name": "too long", "number": "5"} == letter.after
    assert [(8,)] == upgraded_database.execute("SELECT count(*) FROM t")


async def test_a_missing_right_stops_one_table(old_database: Database, upgraded_database: Database) -> None:
    """What fails a whole table is tried once, not once a chunk; other tables are copied."""
    both(old_database, upgraded_database, T + ";CREATE TABLE u (id int PRIMARY KEY)")
    old_database.execute("INSERT INTO t SELECT n FROM generate_series(1, 100) n; INSERT INTO u VALUES (1)")
    async with open_world(old_database, upgraded_database, chunk_rows=10) as world:
        upgraded_database.execute("ALTER TABLE t RENAME name TO title")
        with pytest.raises(ReplicatorError) as caught:
            await world.backfill.run()
    assert ErrorKind.SCHEMA is caught.value.kind
    assert "more chunks" not in caught.value.message or "(and 1 more" in caught.value.message
    assert rows_of(old_database, "u") == rows_of(upgraded_database, "u")


async def test_a_superseded_process_writes_nothing(old_database: Database, upgraded_database: Database) -> None:
    """Once another process has taken over, no chunk of the former one commits (P2)."""
    both(old_database, upgraded_database, T)
    old_database.execute("INSERT INTO t SELECT n FROM generate_series(1, 1000) n")
    async with open_world(old_database, upgraded_database, chunk_rows=10) as frozen:
        async with frozen.target.job("backfill-1") as tx:
            await frozen.store.begin(tx, "backfill", ["public.t"])
        async with open_world(old_database, upgraded_database) as _:
            with pytest.raises(ExceptionGroup) as caught:
                await frozen.backfill.run()
    assert caught.group_contains(ReplicatorError, match="taken over|connection")
    assert [] == rows_of(upgraded_database)


# -- transforms --------------------------------------------------------------------------------------------------------


@transform(old="public.users", upgraded={"public.people": "id", "public.permissions": "user_id"})
def user(row: Row) -> Iterable[Row]:
    if row["role"] is None:
        return
    yield row.to("public.people").drop("role")
    for permission in str(row["role"]).split(","):
        yield Row.of("public.permissions", user_id=row["id"], permission=permission)


@transform(old={"public.orders": "id", "public.notes": "order_id"}, upgraded="public.orders")
def order(order: Aggregate) -> Row:
    notes = sorted(str(note["note"]) for note in order["public.notes"])
    return order.root.set(notes=";".join(notes))


OLD_SHAPES = """
    CREATE TABLE users (id bigint PRIMARY KEY, name text, role text);
    CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint);
    CREATE TABLE notes (id bigint PRIMARY KEY, order_id bigint, note text);
    ALTER TABLE notes REPLICA IDENTITY FULL;
"""
UPGRADED_SHAPES = """
    CREATE TABLE people (id bigint PRIMARY KEY, name text);
    CREATE TABLE permissions (serial bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint, permission text);
    CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint, notes text);
"""


async def test_aggregates_are_transformed(old_database: Database, upgraded_database: Database) -> None:
    """One row to many, many to one, and filtered ones, over many chunks."""
    old_database.execute(OLD_SHAPES)
    upgraded_database.execute(UPGRADED_SHAPES)
    old_database.execute(
        "INSERT INTO users SELECT n, 'u' || n, CASE WHEN n % 10 > 0 THEN 'read,write' END "
        "FROM generate_series(1, 500) n;"
        "INSERT INTO orders SELECT n, n FROM generate_series(1, 300) n;"
        "INSERT INTO notes SELECT n, 1 + n % 300, 'note ' || n FROM generate_series(1, 600) n"
    )
    await copy(old_database, upgraded_database, [], [user, order], chunk_rows=70)
    assert [(450, 900)] == upgraded_database.execute(
        "SELECT (SELECT count(*) FROM people), (SELECT count(*) FROM permissions)"
    )
    assert old_database.execute(
        "SELECT o.id, string_agg(note, ';' ORDER BY note) FROM orders o JOIN notes n ON n.order_id = o.id "
        "GROUP BY 1 ORDER BY 1"
    ) == upgraded_database.execute("SELECT id, notes FROM orders ORDER BY 1")


async def test_a_transform_that_raises_is_parked(old_database: Database, upgraded_database: Database) -> None:
    """With the dead letter queue, the aggregates on which a transform raises are parked, and no other."""

    @transform(old="public.t", upgraded="public.t")
    def fussy(row: Row) -> Row:
        if row["number"] in (13, 17):
            raise ValueError(row["number"])
        return row

    both(old_database, upgraded_database, T)
    old_database.execute("INSERT INTO t SELECT n, 'x', n FROM generate_series(1, 50) n")
    async with open_world(old_database, upgraded_database, [], [fussy], dead_letters=True) as world:
        await world.backfill.run()
        letters = await world.target.dead_letters()
    assert [((b"13",), "transform"), ((b"17",), "transform")] == [(letter.key, letter.kind) for letter in letters]
    assert [(48,)] == upgraded_database.execute("SELECT count(*) FROM t")


async def test_keys_are_translated(old_database: Database, upgraded_database: Database) -> None:
    """A key that changes gets its pair in the map, and columns that refer to it follow, whatever the order."""
    from uuid import UUID, uuid5

    namespace = UUID("8d5e1f6a-6d2c-4d2e-9a53-0e2a8f7f6b11")

    @transform(
        old="public.accounts",
        upgraded="public.accounts",
        key=KeyMap(lambda key: uuid5(namespace, str(key)), sequence="public.accounts_id_seq"),
    )
    def account(row: Row) -> Row:
        return row

    old_database.execute(
        "CREATE TABLE accounts (id bigserial PRIMARY KEY, name text);"
        "CREATE TABLE bills (id int PRIMARY KEY, account_id bigint);"
        "INSERT INTO accounts (name) SELECT 'a' || n FROM generate_series(1, 50) n;"
        "INSERT INTO bills SELECT n, 1 + n % 50 FROM generate_series(1, 200) n"
    )
    upgraded_database.execute(
        "CREATE TABLE accounts (id uuid PRIMARY KEY, name text);"
        "CREATE TABLE bills (id int PRIMARY KEY, account_id uuid)"
    )
    entry = {"old": "public.bills", "references": {"account_id": "public.accounts"}}
    await copy(old_database, upgraded_database, [entry], [account], chunk_rows=9)
    query = "SELECT b.id, a.name FROM bills b JOIN accounts a ON a.id = b.account_id ORDER BY 1"
    assert old_database.execute(query) == upgraded_database.execute(query)
    assert [(50,)] == upgraded_database.execute("SELECT count(*) FROM replicator.key_map")


async def test_only_owned_rows_are_copied(old_database: Database, upgraded_database: Database) -> None:
    """Rows outside `owns_old` are none of the mapping's business, whatever the way of the copy."""

    @transform(old="public.u", upgraded="public.u", owns_old="number > 10")
    def lively(row: Row) -> Row:
        return row

    both(old_database, upgraded_database, T + ";CREATE TABLE u (id bigint PRIMARY KEY, name text, number int)")
    old_database.execute("INSERT INTO u SELECT n, 'x', n FROM generate_series(1, 50) n")
    await copy(old_database, upgraded_database, [], [lively], chunk_rows=7)
    assert [(40, 11)] == upgraded_database.execute("SELECT count(*), min(number) FROM u")


async def test_parents_are_complete_before_their_children(old_database: Database, upgraded_database: Database) -> None:
    """Where foreign keys are checked, because the role may not turn that off, no child comes before its parent."""
    ddl = (
        "CREATE TABLE z_parents (id int PRIMARY KEY);"
        "CREATE TABLE a_children (id int PRIMARY KEY, parent int REFERENCES z_parents);"
    )
    both(old_database, upgraded_database, ddl)
    old_database.execute(
        "INSERT INTO z_parents SELECT n FROM generate_series(1, 300) n;"
        "INSERT INTO a_children SELECT n, 301 - n FROM generate_series(1, 300) n"
    )
    role = f"plain_{upgraded_database.name}"
    upgraded_database.execute(
        f"CREATE ROLE {role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};"
        f"GRANT CREATE, TEMP ON DATABASE {upgraded_database.name} TO {role}"
    )
    plain = AsRole(upgraded_database, role)
    try:
        async with open_world(old_database, plain, workers=4, chunk_rows=20, foreign_keys=True) as world:
            assert "origin" == world.target.role
            await world.backfill.run()
        assert rows_of(old_database, "a_children") == rows_of(upgraded_database, "a_children")
    finally:
        upgraded_database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
