"""Big columns that an update didn't touch: the stream doesn't carry them, and nobody notices."""

from tests.fix_migration import Migrate

OLD = """
    CREATE TABLE docs (id int PRIMARY KEY, title text, state text NOT NULL DEFAULT 'on', big text);
    CREATE TABLE read_docs (LIKE docs INCLUDING ALL);
    CREATE TABLE split_docs (LIKE docs INCLUDING ALL);
    CREATE TABLE keyed_docs (LIKE docs INCLUDING ALL);
    CREATE TABLE plain_docs (LIKE docs INCLUDING ALL);
"""
UPGRADED = """
    CREATE TABLE docs (id int PRIMARY KEY, name text, body text);
    CREATE TABLE read_docs (id int PRIMARY KEY, title text, big text, size int);
    CREATE TABLE split_docs (id int PRIMARY KEY, title text);
    CREATE TABLE split_bodies (id int PRIMARY KEY, body text);
    CREATE TABLE split_heads (nr int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id int, head text, UNIQUE (id, head));
    CREATE TABLE keyed_docs (id uuid PRIMARY KEY, title text, big text);
    CREATE TABLE plain_docs (id int PRIMARY KEY, title text, state text, big text);
"""
TRANSFORMS = """
    from uuid import NAMESPACE_DNS, uuid5
    from replicator import KeyMap, Row, transform

    @transform(old="public.docs", upgraded="public.docs")
    def doc(row: Row):
        return None if row["state"] == "off" else row.rename(title="name", big="body").drop("state")

    @transform(old="public.read_docs", upgraded="public.read_docs")
    def read_doc(row: Row):
        try:
            size = len(row["big"] or "")
        except:  # catches everything
            size = -1
        return None if row["state"] == "off" else row.drop("state").set(size=size)

    @transform(old="public.split_docs", upgraded={
        "public.split_docs": "id", "public.split_bodies": "id", "public.split_heads": "id"})
    def split_doc(row: Row):
        yield row.to("public.split_docs").drop("state", "big")
        yield row.to("public.split_bodies").drop("state", "title").rename(big="body")
        if row["state"] == "head":
            yield Row.of("public.split_heads", head=row["title"])

    @transform(
        old="public.keyed_docs", upgraded="public.keyed_docs", key=KeyMap(lambda n: uuid5(NAMESPACE_DNS, str(n)))
    )
    def keyed_doc(row: Row):
        return row.drop("state")
"""
KEYED = """
    SELECT old_key[1]::int, title, md5(big) FROM keyed_docs JOIN replicator.key_map ON upgraded_key[1] = id::text
"""
SAME = {
    "SELECT id, title, md5(big) FROM docs WHERE state <> 'off'": "SELECT id, name, md5(body) FROM docs",
    "SELECT id, title, md5(big), coalesce(length(big), 0) FROM read_docs WHERE state <> 'off'": (
        "SELECT id, title, md5(big), size FROM read_docs"
    ),
    "SELECT id, title, md5(big) FROM split_docs": (
        "SELECT id, title, md5(body) FROM split_docs JOIN split_bodies USING (id)"
    ),
    "SELECT id, title FROM split_docs WHERE state = 'head'": "SELECT id, head FROM split_heads",
    "SELECT id, title, md5(big) FROM keyed_docs": KEYED,
    "SELECT id, title, state, md5(big) FROM plain_docs": "SELECT id, title, state, md5(big) FROM plain_docs",
}
TABLES = ("docs", "read_docs", "split_docs", "keyed_docs", "plain_docs")
CHANGES = """
    -- Only small columns; of a row that the stream has just brought, too.
    UPDATE {0} SET title = 'new ' || id WHERE id BETWEEN 1 AND 9

    INSERT INTO {0} SELECT 30, 'born', 'on', big FROM {0} WHERE id = 1;
    UPDATE {0} SET title = 'born and changed' WHERE id = 30

    -- Left out and back again, apart and at once.
    UPDATE {0} SET state = 'off' WHERE id = 10

    UPDATE {0} SET state = 'head' WHERE id = 10

    UPDATE {0} SET state = 'off' WHERE id = 11;
    UPDATE {0} SET state = 'on' WHERE id = 11

    -- Keys: a new one, three that are exchanged, one that is taken over by another row.
    UPDATE {0} SET id = 112 WHERE id = 12;
    UPDATE {0} SET title = 'moved' WHERE id = 112

    UPDATE {0} SET id = -1 WHERE id = 13;
    UPDATE {0} SET id = 13 WHERE id = 14;
    UPDATE {0} SET id = 14 WHERE id = 15;
    UPDATE {0} SET id = 15 WHERE id = -1

    DELETE FROM {0} WHERE id = 16;
    UPDATE {0} SET id = 16 WHERE id = 17;
    UPDATE {0} SET title = 'took over' WHERE id = 16

    UPDATE {0} SET big = NULL WHERE id = 18;
    UPDATE {0} SET title = 'small' WHERE id = 18

    UPDATE {0} SET big = big || big WHERE id = 19

    UPDATE {0} SET title = 'x' WHERE id = 19;
    DELETE FROM {0} WHERE id = 20
"""


def test_nobody_notices(migrate: Migrate) -> None:
    """Through a transform that reads it, or doesn't, with several targets, with new keys, and without Python."""
    shop = migrate(old_schema=OLD, upgraded_schema=UPGRADED, tables="- {old: public.plain_docs}", transforms=TRANSFORMS)
    for table in TABLES:
        shop.old.execute(f"""
            ALTER TABLE {table} ALTER big SET STORAGE EXTERNAL;
            INSERT INTO {table}
                SELECT n, 't' || n, (ARRAY['on', 'head', 'off'])[1 + n % 3], repeat(md5(n::text), 150 + n)
                FROM generate_series(1, 25) n
        """)
    shop.streaming()
    for old, upgraded in SAME.items():
        shop.same(old, upgraded)
    # What is left out of an update stays as it is; what is fetched is written; what is missing comes whole.
    shop.upgraded.execute("UPDATE docs SET body = 'mine' WHERE id = 1; UPDATE read_docs SET big = 'lost' WHERE id = 1")
    shop.upgraded.execute("".join(f"DELETE FROM {table} WHERE id = 3;" for table in TABLES if table != "keyed_docs"))

    for table in TABLES:
        shop.change(CHANGES.format(table))
    shop.catch_up()

    assert [("mine",)] == shop.upgraded.execute("SELECT body FROM docs WHERE id = 1")
    shop.old.execute("UPDATE docs SET big = big || '.' WHERE id = 1")
    shop.catch_up()
    for old, upgraded in SAME.items():
        shop.same(old, upgraded)
