"""`replicator verify` of tables whose keys have other types on the two sides, and where one side has far more rows."""

import pytest

from tests.fix_migration import Migrate
from tests.scenario.test_verify import findings, verify

pytestmark = [pytest.mark.timeout(180)]

OLD = """
    CREATE TABLE wider (id int PRIMARY KEY, v text);
    CREATE TABLE narrower (id bigint PRIMARY KEY, v text);
    CREATE TABLE codes (code text PRIMARY KEY, v text);
    CREATE TABLE made (id int PRIMARY KEY, v text);
    INSERT INTO wider SELECT n, 'v' FROM generate_series(1, 50) n;
    INSERT INTO narrower SELECT n, 'v' FROM generate_series(1, 50) n;
    INSERT INTO codes SELECT n, 'v' FROM generate_series(1, 50) n;
    INSERT INTO made SELECT n, 'v' FROM generate_series(1, 50) n;
"""
UPGRADED = """
    CREATE TABLE wider (id bigint PRIMARY KEY, v text);
    CREATE TABLE narrower (id int PRIMARY KEY, v text);
    CREATE TABLE codes (code int PRIMARY KEY, v text);
    CREATE TABLE made (id bigint PRIMARY KEY, v text);
"""
TRANSFORMS = """
    from replicator import Row, transform

    @transform(old="public.made", upgraded="public.made")
    def made(row: Row) -> Row:
        return row.set(v=row["v"] + "!")

    @transform(old="public.codes", upgraded="public.codes")
    def code(row: Row) -> Row:
        return row
"""


def test_keys_that_the_other_side_cannot_have(migrate: Migrate) -> None:
    """An extra row whose key is no value of the old column's type is found, and a row whose key the upgraded column
    can't hold is missing; so are all of many extra rows where the old side has few.
    """
    shop = migrate(
        old_schema=OLD,
        upgraded_schema=UPGRADED,
        tables="[{old: public.wider}, {old: public.narrower, lossy: [id]}]",
        transforms=TRANSFORMS,
        options="cutover: {reverse: off}\napply: {on_error: dlq}\nbackfill: {chunk_rows: 100}",
    )
    shop.streaming()
    shop.catch_up()
    verify(shop, code=0)
    shop.old.execute("INSERT INTO narrower VALUES (5000000000, 'v'), (-5000000000, 'v')")
    shop.old.execute("INSERT INTO codes VALUES ('words', 'v')")
    shop.catch_up()
    for table, least, most in (("wider", 51, 1200), ("narrower", 51, 150), ("codes", 51, 150), ("made", 51, 1200)):
        shop.upgraded.execute(f"INSERT INTO {table} SELECT n, 'extra' FROM generate_series({least}, {most}) n")
    for table in ("wider", "made"):
        shop.upgraded.execute(f"INSERT INTO {table} VALUES (5000000000, 'extra'), (-5000000000, 'extra')")
    document = verify(shop, "--rate", "400", code=1)  # no range of more than 400 rows, on either side
    found = {(table, key[0], kind) for table, key, kind, _, _ in findings(shop)}
    wanted = {(table, str(n), "extra") for table in ("wider", "made") for n in range(51, 1201)}
    wanted |= {(table, str(n), "extra") for table in ("narrower", "codes") for n in range(51, 151)}
    wanted |= {(table, key, "extra") for table in ("wider", "made") for key in ("5000000000", "-5000000000")}
    wanted |= {
        ("narrower", "5000000000", "missing"),
        ("narrower", "-5000000000", "missing"),
        ("codes", "words", "missing"),
    }

    assert wanted == found
    assert {"public.wider": 1152, "public.made": 1152, "public.narrower": 100, "public.codes": 100} == {
        one["table"]: one["extra"] for one in document["tables"]
    }
