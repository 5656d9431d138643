"""What verification reads and stores, on real servers."""

from collections.abc import AsyncIterator

import pytest
from psycopg import sql

from replicator.demo.servers import PostgresServer
from replicator.engine.verify.alike import hashed, ordered_alike
from replicator.engine.verify.ranges import BUCKETS
from replicator.equality import Equal, Equality
from replicator.errors import ErrorKind, ReplicatorError
from replicator.mapping import KeyMapping, Mapping, Side
from replicator.postgres.verify_state import open_verify_store
from replicator.postgres.versions import PostgresVersionedReader
from replicator.tables import Table, TableName
from replicator.verification import BucketDigest, Cause, Counts, Finding, HashedRange, Kind, Progress, Scope
from tests.every_type import NO_XML, VALUES
from tests.fix_postgres import Database, MakeDatabase


def reader_of(database: Database) -> PostgresVersionedReader:
    return PostgresVersionedReader(database.dsn, "test", connector="crm", feed="forward")


@pytest.fixture
def old_database(make_database: MakeDatabase, server15: PostgresServer) -> Database:
    """On another version than the upgraded one."""
    return make_database(server15)


@pytest.fixture
async def old(old_database: Database) -> AsyncIterator[PostgresVersionedReader]:
    made = reader_of(old_database)
    yield made
    await made.close()


@pytest.fixture
async def upgraded(upgraded_database: Database) -> AsyncIterator[PostgresVersionedReader]:
    made = reader_of(upgraded_database)
    yield made
    await made.close()


async def table_of(reader: PostgresVersionedReader, name: str = "public.t") -> Table:
    return (await reader.catalog()).tables[TableName.parse(name)]


TYPES = [name for name in VALUES if not name.startswith("reg") and "." not in name and name not in NO_XML]


def mapping_of(old: Table, upgraded: Table) -> Mapping:
    """Same shape, from one to the other."""
    columns = dict(zip(old.column_names, upgraded.column_names, strict=True))
    return Mapping(name="t", sources=(Side(old, ("id",)),), targets=(Side(upgraded, ("id",)),), columns=columns)


def ranges_of(mapping: Mapping, buckets: int = 1) -> tuple[HashedRange, HashedRange]:
    """All rows of both sides."""
    there, here = hashed(mapping)
    return (
        HashedRange(mapping.root.table, there, ("id",), None, None, buckets),
        HashedRange(mapping.target.table, here, ("id",), None, None, buckets),
    )


async def digest(reader: PostgresVersionedReader, of: HashedRange) -> dict[int, BucketDigest]:
    async with reader.versioned() as snapshot:
        return await snapshot.digests(of)


async def test_every_type_is_equal_on_two_versions(
    old: PostgresVersionedReader,
    upgraded: PostgresVersionedReader,
    old_database: Database,
    upgraded_database: Database,
) -> None:
    """Digests of two servers agree on equal rows of every type, and so do the values; and a lost one is seen."""
    columns = ", ".join(f"c{at} {name}" for at, name in enumerate(TYPES))
    rows = max(len(VALUES[name]) for name in TYPES)
    for database in (old_database, upgraded_database):
        database.execute(f"CREATE TABLE t (id int PRIMARY KEY, {columns})")
        for row in range(rows):
            values = [VALUES[name][row % len(VALUES[name])] for name in TYPES]
            casts = ", ".join(f"%s::{name}" for name in TYPES)
            database.execute(f"INSERT INTO t VALUES ({row}, {casts})", values)
    table = await table_of(upgraded)
    mapping = mapping_of(await table_of(old), table)
    there, here = ranges_of(mapping)
    assert await digest(old, there) == await digest(upgraded, here)
    there, here = ranges_of(mapping, BUCKETS)
    equal = await digest(upgraded, here)
    assert await digest(old, there) == equal
    assert rows == sum(count for count, _ in equal.values())
    async with old.versioned() as one, upgraded.versioned() as other:
        printed = [await snapshot.chunk_versions(table, ("id",), None, None) for snapshot in (one, other)]
    for column, at in zip(table.columns, range(1, 99), strict=False):
        equality = Equality(column)
        assert all(Equal.SAME is equality.compare(a[at], b[at]) for a, b in zip(*printed, strict=True))
    for at in range(len(TYPES)):
        upgraded_database.execute(f"UPDATE t SET c{at} = NULL WHERE id = 0")
        damaged = await digest(upgraded, here)
        assert 1 <= len([one for one in {*equal, *damaged} if equal.get(one) != damaged.get(one)]) <= 2, TYPES[at]
        equal = damaged


# What is easily taken for equal: by the types' own hash functions, or by a look at their texts.
ALMOST: dict[str, list[str | None]] = {
    "integer": [None, "0", "-1"],
    "bigint": [None, "0", "1", "4294967296", "-1", "-4294967296"],
    "numeric": [None, "0", "-5", "5", "50000", "0.0005", "NaN", "1.0000000000000000000001"],
    "numeric(12,2)": ["0.01", "0.02", "-0.01"],
    "real": ["0", "-0", "1", "1.0000001", "NaN"],
    "double precision": ["0.1", "0.10000000000000002", "-0", "0", "Infinity"],
    "text": [None, "", "NULL", "a", "a ", "A", "\u00e9", "e\u0301"],
    "varchar(9)": [None, "", "(", ")"],
    "boolean": [None, "t", "f"],
    "date": ["2024-01-01", "infinity", "5874897-12-31"],
    "timestamptz": ["2024-01-01 00:00:00+00", "2024-01-01 00:00:00.000001+00", "2024-01-01 01:11:34.967296+00"],
    "interval": ["1 day", "24:00:00", "30 days", "1 mon"],
    "uuid": [None, "00000000-0000-0000-0000-000000000000"],
    "bytea": [None, "\\x", "\\x00"],
    "jsonb": ["[[], [1]]", "[[[1]]]", "null", None],
    "integer[]": ["{1,2}", "{{1,2}}", "[2:3]={1,2}", "{}", None, "{NULL}"],
}


@pytest.mark.parametrize("buckets", [1, BUCKETS])
async def test_whatever_is_not_equal_has_another_digest(
    old: PostgresVersionedReader, old_database: Database, buckets: int
) -> None:
    """One unit in the last place, another sign, NULL for nothing, a form that the type's own hash passes over; and two
    values that are exchanged between two rows, whatever else they hold.
    """
    columns = ", ".join(f"c{at} {name}" for at, name in enumerate(ALMOST))
    old_database.execute(f"CREATE TABLE t (id int PRIMARY KEY, {columns}); INSERT INTO t VALUES (1), (2)")
    table = await table_of(old)
    _, of = ranges_of(mapping_of(table, table), buckets)
    for at, (name, values) in enumerate(ALMOST.items()):
        seen = []
        for value in values:
            old_database.execute(f"UPDATE t SET c{at} = %s::{name} WHERE id = 1", [value])
            seen.append(str(await digest(old, of)))
        assert len(values) == len(set(seen)), name
        old_database.execute(f"UPDATE t SET c{at} = CASE id WHEN 1 THEN %s ELSE %s END::{name}", values[:2])
        one = await digest(old, of)
        old_database.execute(f"UPDATE t SET c{at} = CASE id WHEN 2 THEN %s ELSE %s END::{name}", values[:2])
        assert one != await digest(old, of), name
    exchange = "UPDATE t SET (c1, c2) = (c2::bigint, c1::numeric) WHERE id = 1"
    old_database.execute("UPDATE t SET c1 = 1, c2 = 2")
    one = await digest(old, of)
    old_database.execute(exchange)
    assert one != await digest(old, of)


async def test_a_key_that_is_sent_tells_rows_apart(old: PostgresVersionedReader, old_database: Database) -> None:
    """Where all columns, the key too, are hashed in one array, an exchange between two rows is seen all the same."""
    old_database.execute("CREATE TABLE t (id date PRIMARY KEY, v float8)")
    old_database.execute("INSERT INTO t SELECT date '2024-01-01' + n, n FROM generate_series(1, 9) n")
    table = await table_of(old)
    _, of = ranges_of(mapping_of(table, table))
    one = await digest(old, of)
    old_database.execute("UPDATE t SET v = 13 - v WHERE v IN (6, 7)")

    assert one != await digest(old, of)


async def test_rows_of_buckets(old: PostgresVersionedReader, old_database: Database) -> None:
    """The buckets' rows are those of the range, each in one; and so are their keys."""
    old_database.execute("CREATE TABLE t (id int PRIMARY KEY, a text)")
    old_database.execute("INSERT INTO t SELECT n, 'a' || n FROM generate_series(1, 100) n")
    table = await table_of(old)
    there, _ = hashed(mapping_of(table, table))
    of = HashedRange(table, there, ("id",), (b"5",), (b"90",), 16)
    async with old.versioned() as snapshot:
        counts = {bucket: count for bucket, (count, _) in (await snapshot.digests(of)).items()}
        rows = {bucket: await snapshot.rows_in_buckets(of, [bucket]) for bucket in range(16)}
        keys = await snapshot.keys_in_buckets(of, [3, 4])

    assert counts == {bucket: len(found) for bucket, found in rows.items() if found}
    assert {b"%d" % n for n in range(6, 91)} == {row[1] for found in rows.values() for row in found}
    assert sorted(keys) == sorted((row[1],) for row in rows[3] + rows[4])


async def test_columns_of_types_that_are_near(old: PostgresVersionedReader, old_database: Database) -> None:
    """Equal values have equal digests: numbers of another scale, a wider `character`, integers that became wider, or
    numeric, and texts of another length.
    """
    old_database.execute("CREATE TABLE t (id int PRIMARY KEY, n numeric, c char(3), i int, j bigint, v varchar(5))")
    old_database.execute(
        "CREATE TABLE u (id bigint PRIMARY KEY, n numeric(10,4), c char(9), i bigint, j numeric(20,2), v text)"
    )
    for name in ("t", "u"):
        old_database.execute(f"INSERT INTO {name} VALUES (1, 1.5, 'a', -7, 8, 'v'), (-2, 100, NULL, NULL, -80, NULL)")
    there, here = ranges_of(mapping_of(await table_of(old, "public.t"), await table_of(old, "public.u")))

    assert await digest(old, there) == await digest(old, here)


KEYS = {
    ("int", "bigint"): True,
    ("numeric(5,1)", "numeric(5,1)"): True,
    ("numeric", "numeric(5,1)"): False,  # two texts of one key
    ("text", "varchar(9)"): True,
    ('text COLLATE "C"', "text"): True,  # which the servers of the tests compare by their bytes, too
    ('text COLLATE "en-x-icu"', "text"): False,
    ("citext", "citext"): False,
}


async def test_which_keys_are_ordered_alike(
    old: PostgresVersionedReader,
    upgraded: PostgresVersionedReader,
    old_database: Database,
    upgraded_database: Database,
) -> None:
    """Keys whose order is the same on both servers, whatever their version; of texts, what compares them is asked."""
    found = {}
    for database in (old_database, upgraded_database):
        database.execute("CREATE EXTENSION citext")
    for one, other in KEYS:
        for database, kind in ((old_database, one), (upgraded_database, other)):
            database.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t (id {kind} PRIMARY KEY)")
        mapping = mapping_of(await table_of(old), await table_of(upgraded))
        found[one, other] = await ordered_alike(mapping, old, upgraded)

    assert KEYS == found


async def test_rows_come_with_who_wrote_them(old: PostgresVersionedReader, old_database: Database) -> None:
    """Each row by the number of the key that asked for it, with its xmin, and whether the predicate holds."""
    old_database.execute("CREATE TABLE t (id numeric, k0 int, v text, PRIMARY KEY (id, k0))")
    old_database.execute("INSERT INTO t VALUES (1.0, 1, 'a'), (1.0, 2, 'b'), (2, 1, NULL)")
    old_database.execute("UPDATE t SET v = 'c' WHERE id = 2")
    xmins = [row[0] for row in old_database.execute("SELECT xmin::text FROM t ORDER BY id, k0")]
    table = await table_of(old)
    async with old.versioned() as snapshot:
        rows = await snapshot.versions(table, ("id",), [(b"2",), (b"1.00",), (b"1",), (b"3",)])
        owned = await snapshot.owned_versions(table, ("id",), [(b"1",)], owns="k0 = 1 AND v IS NOT NULL")

    a, b, c = (
        (xmin.encode(), *row)
        for xmin, row in zip(xmins, ((b"1.0", b"1", b"a"), (b"1.0", b"2", b"b"), (b"2", b"1", b"c")), strict=True)
    )
    assert {(b"1", *c), (b"2", *a), (b"2", *b), (b"3", *a), (b"3", *b)} == set(rows)
    assert {(b"1", a[0], b"t", *a[1:]), (b"1", b[0], b"f", *b[1:])} == set(owned)


async def test_children_come_in_the_order_that_a_transform_sees(
    old: PostgresVersionedReader, old_database: Database
) -> None:
    """By primary key, as the feed reads them."""
    old_database.execute("CREATE TABLE t (id int PRIMARY KEY, parent int)")
    old_database.execute("INSERT INTO t SELECT n, n % 2 FROM generate_series(200, 1, -1) n")
    table = await table_of(old)
    async with old.versioned() as snapshot:
        rows = await snapshot.versions(table, ("parent",), [(b"0",), (b"1",)])

    assert [b"%d" % n for n in range(1, 201)] == [row[2] for row in rows]


async def test_the_barrier_lies_beyond_everything_that_runs(
    old: PostgresVersionedReader, old_database: Database
) -> None:
    """Also beyond a transaction that a snapshot's xmax leaves out: the newest one, which has not ended."""
    with old_database.connect() as session:
        row = session.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
        assert row is not None
        async with old.versioned() as snapshot:
            assert int(snapshot.text.split(":")[1]) <= row[0]
        barrier = await old.barrier()
        assert barrier > row[0]
        async with old.versioned() as snapshot:
            assert int(snapshot.text.split(":")[0]) <= barrier
    async with old.versioned() as snapshot:
        assert int(snapshot.text.split(":")[0]) > barrier


async def test_what_the_server_prints(upgraded: PostgresVersionedReader, upgraded_database: Database) -> None:
    """Texts as the type prints them itself; what is no value of it is an error of the data."""
    upgraded_database.execute("CREATE TABLE t (id int PRIMARY KEY, b bool, i inet, c char(4), n numeric(4,1), j jsonb)")
    columns = (await table_of(upgraded)).by_name
    async with upgraded.versioned() as snapshot:
        assert [b"t", b"f"] == await snapshot.printed(columns["b"], [b"yes", b"FALSE"])
        assert [b"10.0.0.1"] == await snapshot.printed(columns["i"], [b"10.0.0.1/32"])
        assert [b"a  "] == await snapshot.printed(columns["c"], [b"a  "])
        assert [b"1000.25"] == await snapshot.printed(columns["n"], [b"1.00025e3"])
        assert [b'{"a": 1}'] == await snapshot.printed(columns["j"], [b'{"a":1}'])
    with pytest.raises(ReplicatorError) as caught:
        async with upgraded.versioned() as snapshot:
            await snapshot.printed(columns["b"], [b"perhaps"])
    assert ErrorKind.DATA is caught.value.kind


async def test_the_key_map_is_read_both_ways(upgraded: PostgresVersionedReader, upgraded_database: Database) -> None:
    """What it has, by the order of what was asked; nothing where there is no map at all."""
    keys = KeyMapping("public.orders", forward=True)
    async with upgraded.versioned() as snapshot:
        assert {} == await snapshot.pairs(keys, [(b"1",)])
    async with open_verify_store(upgraded_database.dsn, "crm", "forward"):
        pass
    upgraded_database.execute(
        "INSERT INTO replicator.key_map VALUES ('public.orders', '{1}', '{u1}'), ('x', '{2}', '{u2}')"
    )
    async with upgraded.versioned() as snapshot:
        assert {(b"1",): (b"u1",)} == await snapshot.pairs(keys, [(b"2",), (b"1",)])
        assert {(b"u1",): (b"1",)} == await snapshot.pairs(keys, [(b"u1",), (b"1",)], back=True)


def finding(key: str, kind: Kind = Kind.MISSING, **more: object) -> Finding:
    return Finding(
        "public.t",
        TableName("crm", "t"),
        (key.encode(),),
        kind,
        source_key=(key.encode(),),
        evidence={"lsn": 7, **more},
    )


DIVERGENCES = """
    SELECT key[1], kind, columns, cause, evidence, closed_at IS NULL, last_seen > first_seen FROM replicator.divergence
"""


async def test_findings_are_opened_seen_again_and_closed(upgraded_database: Database) -> None:
    """A finding is one row however often it is seen; closed it is kept, and opened again when it comes back."""
    async with open_verify_store(upgraded_database.dsn, "crm", "forward") as store:
        await store.record([finding("1"), finding("2"), finding("2")])
        await store.record([finding("2", looks=3)])
        opened = await store.divergences("public.t", 0, 10)
        assert [(b"1",), (b"2",)] == [one.source_key for one in opened]
        assert [opened[1]] == await store.divergences("public.t", opened[0].id, 10)
        await store.close([opened[0].id])
        assert [(b"2",)] == [one.key for one in await store.divergences("public.t", 0, 10)]
        rows = {row[0]: row[1:] for row in upgraded_database.execute(DIVERGENCES)}
        assert ("missing", [], "unknown", {"lsn": 7}, False, False) == rows["1"]
        assert ("missing", [], "unknown", {"lsn": 7, "looks": 3}, True, True) == rows["2"]
        await store.record(
            [Finding("public.t", TableName("crm", "t"), (b"1",), Kind.DIFFERENT, ("a", "b"), cause=Cause.DEAD_LETTER)]
        )
        await store.record([finding("1")])
        assert 3 == len(await store.divergences("public.t", 0, 10))
        run = await store.begin(Scope())
        await store.record([finding("2")])
        await store.close_unseen(run, "public.t")
        assert [(b"2",)] == [one.key for one in await store.divergences("public.t", 0, 10)]


async def test_a_run_is_resumed_by_one_alone(upgraded_database: Database) -> None:
    """The same scope goes on where it was, another one doesn't, and nor does a second process at the same time."""
    dsn, scope = upgraded_database.dsn, Scope(digests={"public.t": "1"})
    progress = Progress(1, (b"7", b"x"), 90, {"crm.t": Counts(90, missing=2)}, [(b"3", b"y")], [("crm.t", (b"4",))])
    async with open_verify_store(dsn, "crm", "forward") as first:
        run = await first.begin(scope)
        await first.save(run, "public.t", progress)
        async with open_verify_store(dsn, "crm", "forward") as second:
            beside = await second.begin(scope)
        assert not beside.resumed
        assert run.id != beside.id
    async with open_verify_store(dsn, "crm", "forward") as third:
        assert not (await third.begin(Scope(digests={"public.t": "2"}))).resumed
        again = await third.begin(scope)
        assert (True, run.id, {"public.t": progress}) == (again.resumed, again.id, again.progress)
        await third.finish(again, {"ok": True})
    assert [({"ok": True},)] == upgraded_database.execute(
        "SELECT result FROM replicator.verification WHERE finished_at IS NOT NULL"
    )


async def test_what_the_feed_has_left_to_do(upgraded: PostgresVersionedReader, upgraded_database: Database) -> None:
    """Deferred aggregates and dead letters of this mapping, those that were discarded left out."""
    async with open_verify_store(upgraded_database.dsn, "crm", "forward"):
        pass
    upgraded_database.execute(
        "INSERT INTO replicator.deferred VALUES ('crm', 'forward', 'public.t', '{1,a}'), ('crm', 'forward', 'x', '{2}')"
    )
    for key, discarded in (("{3}", "NULL"), ("{4}", "now()")):
        upgraded_database.execute(
            sql.SQL(
                "INSERT INTO replicator.dead_letter (connector, feed, mapping, key, source_schema, source_table, op, "
                "position, kind, message, discarded_at) VALUES ('crm', 'forward', 'public.t', {}, 's', 't', 'c', 'p', "
                "'data', 'm', {})"
            )
            .format(sql.Literal(key), sql.SQL(discarded))
            .as_string()
        )
    async with upgraded.versioned() as snapshot:
        waiting = await snapshot.waiting("public.t")

    assert {(b"1", b"a")} == waiting.deferred
    assert {(b"3",)} == waiting.letters.keys()
