"""What a plan finds at the target: columns, types, keys, foreign keys, triggers, rights."""

from dataclasses import replace
from typing import Any

import pytest

from replicator.assess import Level
from replicator.assess.facts import TableRights
from replicator.mapping import KeyMapping
from replicator.tables import Catalog, Trigger
from tests.assessing import codes, database, foreign, found, integer, plan, table, text, transform, unique

USERS = table("public.users", text("name"))
NAME = USERS.name
VARCHAR = {"type_name": "character varying(3)", "cast_type": "character varying", "typmod": 7, "base_typmod": 7}


def test_a_smaller_column_is_refused_unless_declared_lossy() -> None:
    """Assignment would truncate or round, or stop the feed later: it takes a decision."""
    narrow = table("public.users", text("name", **VARCHAR))
    made = plan(database(USERS), database(narrow, name="b"))
    finding = found(made, "type")
    assert (Level.STOP, "public.users.name") == (finding.level, finding.subject)
    assert "text does not fit into character varying(3): shorter" == finding.message
    assert "lossy: [name]" in finding.remedy
    lossy = plan(database(USERS), database(narrow, name="b"), yaml="tables: [{old: public.users, lossy: [name]}]")
    assert Level.NOTE is found(lossy, "type").level
    assert () == lossy.stops


def test_an_untouched_column_of_a_transform_is_warned_about() -> None:
    """What a function does with a column can't be known, but a column of one name may pass as it is."""
    narrow = table("crm.users", text("name", **VARCHAR))
    mapping = transform({USERS: ("id",)}, {narrow: ("id",)})
    made = plan(
        database(USERS),
        database(narrow, name="b"),
        yaml="tables: [{old: public.users, upgraded: crm.users}]",
        mappings=[mapping],
    )
    assert Level.WARN is found(made, "type").level


def test_translated_keys_need_no_equal_type() -> None:
    """A column that holds a translated key gets its value from the key map."""
    uuid = integer("id", type_oid=2950, type_name="uuid", cast_type="uuid")
    upgraded = replace(USERS, columns=(uuid, *USERS.columns[1:]))
    plain = transform({USERS: ("id",)}, {upgraded: ("id",)})
    translated = replace(plain, key_map=KeyMapping("public.users", forward=True))
    assert "type" in codes(plan(database(USERS), database(USERS, name="b"), mappings=[plain]))
    made = plan(database(USERS), database(USERS, name="b"), mappings=[translated])
    assert "type" not in codes(made)
    assert "keys translated" in made.mappings[0].how


def test_every_column_is_accounted_for() -> None:
    """Left over, filled by a default, generated, identity, and NULL into NOT NULL: each is said."""
    old = table("public.users", text("name"), text("legacy"), text("free"))
    upgraded = table(
        "public.users",
        text("name", nullable=False),
        text("free"),
        text("state", has_default=True),
        integer("doubled", generated="s", nullable=True),
        integer("n", identity="a", has_default=True),
    )
    entry = "tables: [{old: public.users, drop: [legacy]}]"
    made = plan(database(old), database(upgraded, name="b"), yaml=entry)
    assert "not carried: legacy" == found(made, "left_over").message
    assert "state, n" in found(made, "unfilled").message
    assert "doubled" in found(made, "generated").message
    assert ": n;" in found(made, "identity").message
    assert "public.users.name" == found(made, "nullable").subject
    assert () == made.stops


ORDERS = table("public.orders", integer("user_id"), foreign_keys=(foreign("orders_user", "user_id", "public.users"),))


def test_parents_come_before_children() -> None:
    """The order of writes follows the foreign keys."""
    made = plan(database(ORDERS, USERS), database(ORDERS, USERS, name="b"))
    assert (USERS.name, ORDERS.name) == made.write_order


@pytest.mark.parametrize(
    "deferrable,replica_role,level",
    [(False, True, Level.NOTE), (False, False, Level.STOP), (True, False, Level.NOTE)],
)
def test_a_circle_needs_a_deferrable_key_or_the_replica_role(
    *, deferrable: bool, replica_role: bool, level: Level
) -> None:
    """No order of writes serves a circle whose keys are checked at once."""
    key = foreign("users_order", "last_order", "public.orders", deferrable=deferrable)
    users = table("public.users", integer("last_order"), foreign_keys=(key,))
    upgraded = database(users, ORDERS, name="b", rights={"replica_role": replica_role})
    finding = found(plan(database(users, ORDERS), upgraded), "foreign_key_circle")
    assert level is finding.level
    if level is Level.STOP:
        assert finding.remedy.endswith("DEFERRABLE;")


def test_without_the_replica_role_foreign_keys_and_lanes_are_refused() -> None:
    """Foreign keys would be checked while the copy catches up; the GRANT is printed for the version."""
    lacking: dict[str, Any] = {"rights": {"replica_role": False}}
    made = plan(database(ORDERS, USERS), database(ORDERS, USERS, name="b", **lacking))
    (stop,) = made.stops
    assert 'GRANT SET ON PARAMETER session_replication_role TO "replicator";' in stop.remedy
    assert "ALTER TABLE public.orders DROP CONSTRAINT orders_user;" in stop.remedy
    lanes = 'tables: [{old: "public.*"}]\napply: {lanes: 3}'
    made = plan(database(USERS), database(USERS, name="b", version=140000, **lacking), yaml=lanes)
    (stop,) = made.stops
    assert "3 lanes" in stop.message
    assert 'ALTER ROLE "replicator" SUPERUSER;' in stop.remedy
    assert (False, True) == (made.whole_transactions, "apply.lanes is 3" in made.transactions_reason)


def test_foreign_keys_to_and_from_unmapped_tables_are_warned_about() -> None:
    """Nobody replicates their other end."""
    audit = table(
        "public.audit",
        integer("order_id"),
        foreign_keys=(foreign("audit_order", "order_id", "public.orders", on_delete="c"),),
    )
    entry = "tables: [{old: public.orders}]"
    made = plan(database(ORDERS), database(ORDERS, USERS, audit, name="b"), yaml=entry)
    subjects = {finding.subject for finding in made.findings if finding.code == "foreign_key_unmapped"}
    assert {"public.orders.orders_user", "public.audit.audit_order"} == subjects


@pytest.mark.parametrize(
    "enabled,replica_role,code",
    [
        ("O", True, "triggers_silent"),
        ("O", False, "triggers_fire"),
        ("A", True, "triggers_fire"),
        ("A", False, "triggers_fire"),
        ("R", True, "triggers_fire"),
        ("R", False, None),
        ("D", True, None),
    ],
)
def test_triggers_that_fire_and_those_that_do_not(*, enabled: str, replica_role: bool, code: str | None) -> None:
    """Which of the application's triggers run for replicated rows depends on the role and on the trigger."""
    upgraded = replace(USERS, triggers=(Trigger("touch", enabled),))
    made = plan(database(USERS), database(upgraded, name="b", rights={"replica_role": replica_role}))
    assert {code} - {None} == codes(made) & {"triggers_silent", "triggers_fire"}
    if code == "triggers_fire":
        assert "ALTER TABLE public.users DISABLE TRIGGER touch;" in found(made, code).remedy


def test_keys_that_only_the_upgraded_side_has() -> None:
    """Deferrable keys, partial and excluding indexes, and uniqueness that the old side doesn't promise are named."""
    upgraded = replace(
        USERS,
        unique_keys=(*USERS.unique_keys, unique("name_key", "name"), unique("later", "name", "id", deferrable=True)),
        other_unique_indexes=("lower_name", "no_overlap"),
        deferrable_exclusions=("no_overlap",),
    )
    made = plan(database(USERS), database(upgraded, name="b"))
    assert "public.users.name_key" == found(made, "unique_only_here").subject
    assert "(later, no_overlap)" in found(made, "deferrable_key").message
    assert "lower_name. " in found(made, "other_unique").message
    assert () == made.stops


@pytest.mark.parametrize(
    "changes,code",
    [
        ({"server": {"in_recovery": True}}, "standby"),
        ({"rights": {"own_schema": False, "create_on_database": False}}, "right_schema"),
        ({"table_rights": {NAME: TableRights(row_security=True)}}, "row_security"),
        ({"table_rights": {NAME: TableRights(update=False)}}, "right_table"),
        ({"subscribed": frozenset({NAME})}, "subscription"),
        ({"version": 130000, "rights": {"origin_functions": False}}, "right_origin"),
    ],
)
def test_what_the_upgraded_side_lacks_stops(changes: dict[str, Any], code: str) -> None:
    """Each is something without which nothing could be written, or could be lost."""
    made = plan(database(USERS), database(replace(USERS), **{"name": "b"} | changes))
    assert Level.STOP is found(made, code).level


def test_an_unlogged_target_would_lose_rows_behind_the_checkpoint() -> None:
    """After a crash it is empty, and the checkpoint is not."""
    finding = found(plan(database(USERS), database(replace(USERS, persistence="u"), name="b")), "unlogged")
    assert (Level.STOP, "ALTER TABLE public.users SET LOGGED;") == (finding.level, finding.remedy)


def test_rights_that_can_be_done_without_only_warn() -> None:
    """TRUNCATE may never come; origins can be replaced by a marker."""
    upgraded = database(
        USERS, name="b", table_rights={NAME: TableRights(truncate=False)}, rights={"origin_functions": False}
    )
    made = plan(database(USERS), upgraded)
    assert () == made.stops
    assert 'GRANT TRUNCATE ON public.users TO "replicator";' == found(made, "right_table").remedy
    assert (
        "GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_create(text)" in found(made, "right_origin").remedy
    )


def test_lanes_need_an_origin_each() -> None:
    """A session holds an origin alone, and a setting bounds them."""
    yaml = 'tables: [{old: "public.*"}]\napply: {lanes: 8}'
    made = plan(database(USERS), database(USERS, name="b", server={"origins_max": 9, "origins_used": 2}), yaml=yaml)
    assert "max_active_replication_origins = 15" in found(made, "origins").remedy


def test_rows_that_are_there_already_are_warned_about_before_the_first_start() -> None:
    """Nobody has replicated them; after a first start it is our own rows."""
    upgraded = database(USERS, name="b", filled={NAME: True})
    assert "TRUNCATE public.users;" in found(plan(database(USERS), upgraded), "not_empty").remedy
    assert "not_empty" not in codes(plan(database(USERS), upgraded, started=True))


def test_an_enum_with_fewer_labels_is_refused() -> None:
    """The catalogs' labels are compared, whatever the types are called."""
    mood = {"type_oid": 99, "type_name": "public.mood", "cast_type": "public.mood"}
    old, upgraded = (
        database(table("public.users", text("m", **mood))),
        database(table("public.users", text("m", **mood))),
    )
    old = replace(old, catalog=Catalog(180000, old.catalog.tables, {"public.mood": ("sad", "ok")}))
    upgraded = replace(upgraded, catalog=Catalog(180000, upgraded.catalog.tables, {"public.mood": ("ok", "happy")}))
    assert "it lacks the labels sad" in found(plan(old, upgraded), "type").message
