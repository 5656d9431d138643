"""Keys that are equal in another text: a child spells its parent's key in its own way, a target in its type's."""

from tests.fix_migration import Migrate

OLD = """
    CREATE EXTENSION citext;
    CREATE TABLE tags (name citext PRIMARY KEY, note text);
    CREATE TABLE words (id int PRIMARY KEY, tag citext REFERENCES tags, word text);
    ALTER TABLE words REPLICA IDENTITY FULL;
    CREATE TABLE sizes (code text, size numeric, PRIMARY KEY (code, size));
    CREATE TABLE items (id int PRIMARY KEY, code citext, size numeric(9, 3));
    ALTER TABLE items REPLICA IDENTITY FULL;
    CREATE TABLE prices (amount numeric PRIMARY KEY, note text);
"""
UPGRADED = """
    CREATE EXTENSION citext;
    CREATE TABLE tags (name citext PRIMARY KEY, note text, words text[]);
    CREATE TABLE sizes (code text, size numeric(12, 2), items int[], PRIMARY KEY (code, size));
    CREATE TABLE prices (amount numeric(12, 2) PRIMARY KEY, note text);
"""
TRANSFORMS = """
    from replicator import Aggregate, Row, transform

    @transform(old={"public.tags": "name", "public.words": "tag"}, upgraded={"public.tags": "name"})
    def tag(tag: Aggregate):
        return tag.root.set(words=sorted(row["word"] for row in tag["public.words"]))

    @transform(
        old={"public.sizes": ("code", "size"), "public.items": ("code", "size")},
        upgraded={"public.sizes": ("code", "size")},
        lossy="size",
    )
    def size(size: Aggregate):
        return size.root.set(items=sorted(row["id"] for row in size["public.items"]))
"""
SAME = {
    "SELECT name::text, note, ARRAY(SELECT word FROM words WHERE tag = name ORDER BY word) FROM tags": (
        "SELECT name::text, note, words FROM tags"
    ),
    """
    SELECT code, size::numeric(12, 2),
        ARRAY(SELECT id FROM items i WHERE (i.code, i.size) = (s.code, s.size) ORDER BY id)
    FROM sizes s
    """: "SELECT code, size, items FROM sizes",
    "SELECT amount::numeric(12, 2), note FROM prices": "SELECT amount, note FROM prices",
}


def test_children_and_targets_spell_keys_in_their_own_way(migrate: Migrate) -> None:
    """Copied, streamed and copied again: an equal key is the same key."""
    shop = migrate(
        old_schema=OLD,
        upgraded_schema=UPGRADED,
        tables="- {old: public.prices, lossy: [amount]}",
        transforms=TRANSFORMS,
    )
    shop.old.execute("""
        INSERT INTO tags SELECT 'Tag' || n, n FROM generate_series(1, 30) n;
        INSERT INTO words SELECT n, (ARRAY['TAG', 'tag', 'Tag'])[1 + n % 3] || (1 + n % 30), 'w' || n
            FROM generate_series(1, 100) n;
        INSERT INTO sizes SELECT 'c' || n, n * 1.0 FROM generate_series(1, 30) n;
        INSERT INTO items SELECT n, 'c' || (1 + n % 30), 1 + n % 30 FROM generate_series(1, 100) n;
        INSERT INTO prices SELECT n, 'p' FROM generate_series(1, 30) n
    """)
    shop.streaming()
    for old, upgraded in SAME.items():
        shop.same(old, upgraded)

    shop.change("""
        INSERT INTO words VALUES (200, 'tAG1', 'new');
        UPDATE words SET tag = 'TAG2' WHERE id = 3;
        DELETE FROM words WHERE id = 4

        UPDATE tags SET note = 'x' WHERE name = 'TAG5';
        INSERT INTO words VALUES (201, 'TAG5', 'new')

        UPDATE tags SET name = 'TAG7' WHERE name = 'tag7'

        UPDATE items SET code = 'c3', size = 3 WHERE id < 10;
        DELETE FROM items WHERE id = 11

        UPDATE sizes SET size = 4.000 WHERE code = 'c4'

        DELETE FROM sizes WHERE code = 'c5';
        DELETE FROM items WHERE code = 'c5';
        DELETE FROM words WHERE tag = 'tag6';
        DELETE FROM tags WHERE name = 'TAG6'

        UPDATE prices SET amount = 7.000, note = 'same' WHERE amount = 7;
        UPDATE prices SET note = 'x' WHERE amount = 8;
        DELETE FROM prices WHERE amount = 9
    """)
    shop.catch_up()
    for old, upgraded in SAME.items():
        shop.same(old, upgraded)

    shop.upgraded.execute(
        "UPDATE tags SET words = NULL; UPDATE sizes SET items = NULL; INSERT INTO prices VALUES (99.5, 'extra')"
    )
    for table in ("tags", "sizes", "prices"):
        resync = shop.command("resync", "FILE", f"public.{table}")
        assert 0 == resync.wait(), resync.story()
    for old, upgraded in SAME.items():
        shop.same(old, upgraded)
