"""P4: what a transform doesn't touch arrives as the source prints it, whatever the shape around it."""

from tests.fix_migration import Migrate

TYPES = """
    CREATE EXTENSION citext;
    CREATE EXTENSION hstore;
    CREATE TYPE mood AS ENUM ('sad', 'O''Brien', 'a,b');
    CREATE TYPE place AS (street text, nr int, since date);
    CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
    CREATE TYPE spans AS RANGE (subtype = float8);
"""
COLUMNS = """
    n numeric, f float8, r real, d date, ts timestamp, tz timestamptz, iv interval, tr tstzrange, mr nummultirange,
    m mood, p place, ps place[], dom positive, sp spans, ci citext, h hstore, ar int[], ar2 text[][], js json, jb jsonb,
    b bytea, bits bit varying(9), ip inet, pt point, mo money, t text, c char(4), vc varchar(9), u uuid, x xid8,
    ti timetz
"""
VALUES = (
    r"""'NaN', '-Infinity', '1e-45', '-infinity', '0044-03-15 12:00:00.000001 BC', 'infinity',
    '-1 mons +3 days -00:00:01', '["0044-01-01 BC",infinity]', '{[1.10,2.00),[3,)}', 'O''Brien',
    '("a ""b"", \\c",,infinity)', '{"(x,1,)",NULL,"(\"y,z\",,)"}', 1e-30, '(NaN,]', 'MiXed', '"a"=>NULL,
    "b c"=>"1,2"', '[-1:1]={1,NULL,3}',
    '{{a,"b,c"},{NULL,"NULL"}}', '{"a" : 1.0,  "a": 2}', '{"b": 1.00, "a": 12345678901234567890.123}', '\x00ff5c',
    B'101', '::ffff:1.2.3.4/100', '(NaN,1e-300)', '-$1.50', E'tab\t nl\n cr\r \\N \\. 🐘 é', 'ab', 'trail   ',
    'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '18446744073709551615', '24:00:00-15:59'""",
    """'Infinity', 'NaN', '-0', 'infinity', 'infinity', '4714-11-24 00:00:00+00 BC', '178000000 years',
    'empty', '{}', 'a,b', '(,,)', '{}', 9999999999999999999999999999999999, 'empty', '', '', '{}', '{}', 'null',
    'null', '',
    B'', '0.0.0.0/0', '(0,-0)', '$0', '', '', '', '00000000-0000-0000-0000-000000000000', '0', '00:00:00+15:59'""",
)
OLD = f"""
    {TYPES}
    CREATE TABLE things (id int PRIMARY KEY, old_name text, {COLUMNS});
    CREATE TABLE owners (id int PRIMARY KEY, old_name text, {COLUMNS});
    CREATE TABLE owned (owner_id int, nr int, {COLUMNS}, PRIMARY KEY (owner_id, nr));
"""
UPGRADED = f"""
    {TYPES}
    CREATE TABLE things (id int PRIMARY KEY, name text, {COLUMNS});
    CREATE TABLE owners (id int PRIMARY KEY, name text, {COLUMNS});
    CREATE TABLE owned (owner_id int, nr int, {COLUMNS}, PRIMARY KEY (owner_id, nr));
"""
TRANSFORMS = """
    from replicator import Aggregate, Row, transform

    @transform(old="public.things", upgraded="public.things")
    def thing(row: Row):
        return row.drop("old_name").set(name=row["old_name"].upper())

    @transform(old={"public.owners": "id", "public.owned": "owner_id"},
               upgraded={"public.owners": "id", "public.owned": "owner_id"})
    def owner(owner: Aggregate):
        yield owner.root.to("public.owners").rename(old_name="name")
        for row in owner["public.owned"]:
            yield row.to("public.owned")
"""


def test_every_odd_value_passes(migrate: Migrate) -> None:
    """Copied, inserted and updated, by row and by aggregate."""
    shop = migrate(old_schema=OLD, upgraded_schema=UPGRADED, tables="[]", transforms=TRANSFORMS)

    def insert(start: int) -> None:
        for number, values in enumerate(VALUES, start):
            shop.old.execute(f"INSERT INTO things VALUES ({number}, 'abc', {values})")
            shop.old.execute(f"INSERT INTO owners VALUES ({number}, 'abc', {values})")
            shop.old.execute(f"INSERT INTO owned VALUES ({number}, 1, {values}), ({number}, 2, {values})")

    insert(1)
    shop.old.execute("INSERT INTO things (id, old_name) VALUES (100, ''); INSERT INTO owners (id) VALUES (100)")
    shop.streaming()
    insert(11)
    shop.old.execute("UPDATE things SET old_name = 'changed' WHERE id IN (1, 11); UPDATE owned SET nr = 3 WHERE nr = 1")
    shop.catch_up()

    columns = ", ".join(part.split()[0] for part in COLUMNS.split(","))
    shop.same(
        f"SELECT (id, upper(old_name), {columns})::text FROM things", f"SELECT (id, name, {columns})::text FROM things"
    )
    shop.same(f"SELECT (id, old_name, {columns})::text FROM owners", f"SELECT (id, name, {columns})::text FROM owners")
    shop.same("SELECT o::text FROM owned o")
