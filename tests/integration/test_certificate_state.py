"""What the target's own tables say of a certificate, one fact at a time; and results of checks over time."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from replicator.certificate import RunFacts, TargetFacts
from replicator.checks import CheckKind, CheckResult, Severity
from replicator.demo.servers import PostgresServer
from replicator.postgres.certificate_state import PostgresProofStore, open_proof_store, read_identity
from tests.fix_postgres import Database, MakeDatabase, MakeServer

WHOLE = '{"tables": [], "where": null, "sample_percent": 100.0, "digests": {}}'
RESULT = '{"ok": true, "tables": [], "checks": []}'
MAPPINGS = ["public.users", "public.orders"]
CHECK = CheckResult("balance", CheckKind.SQL, ok=True, message="no row", position=5)


@pytest.fixture
async def store(upgraded_database: Database) -> AsyncIterator[PostgresProofStore]:
    async with open_proof_store(upgraded_database.dsn, "crm", "forward") as made:
        yield made


def verified(database: Database, scope: str = WHOLE, result: str | None = RESULT) -> int:
    """A verification that began a minute ago; without a result it has not come to its end."""
    ((number,),) = database.execute(
        "INSERT INTO replicator.verification (connector, feed, scope, result, started_at, finished_at) VALUES "
        "('crm', 'forward', %s, %s, now() - interval '1 min', CASE WHEN %s::text IS NOT NULL THEN now() END) "
        "RETURNING id",
        [scope, result, result],
    )
    return int(number)


async def test_nothing_is_known_before_anything_is_done(upgraded_database: Database) -> None:
    """A database without our schema has no facts, and reading them makes none."""
    async with open_proof_store(upgraded_database.dsn, "crm", "forward", make=False) as store:
        assert TargetFacts() == await store.facts(MAPPINGS)
    assert [] == upgraded_database.execute("SELECT nspname FROM pg_namespace WHERE nspname = 'replicator'")


DIVERGENCE = "divergence", "mapping, table_schema, table_name, key, kind, cause, closed_at"
LETTER = "dead_letter", "mapping, key, source_schema, source_table, op, position, kind, message, discarded_at"
DIGEST = "mapping_digest", "mapping, digest, since, writes, writes_since"
REQUEST = "request", "kind, status"
COPIED = "copied_table", "job, mapping, started_at, finished_at"
OPEN = "'crm', 'users', '{1}', 'missing', 'unknown', NULL"
FACTS: list[tuple[tuple[str, str], str, dict[str, Any]]] = [
    (("feed", "epoch, lanes, holder, state"), "1, 1, 'me', 'streaming'", {"state": "streaming"}),
    (DIVERGENCE, f"'public.users', {OPEN}", {"divergences": {"crm.users": 1}}),
    (DIVERGENCE, f"'public.users', {OPEN.replace('NULL', 'now()')}", {}),
    (DIVERGENCE, f"'public.gone', {OPEN}", {}),
    (LETTER, "'public.users', '{1}', 'public', 'users', 'u', '0/1', 'data', '', NULL", {"dead_letters": 1}),
    (LETTER, "'public.users', '{1}', 'public', 'users', 'u', '0/1', 'data', '', now()", {}),
    (("stale_mapping", "mapping, reason"), "'public.users', 'rewritten'", {"stale": {"public.users": "rewritten"}}),
    (REQUEST, "'resync', 'new'", {"requests": ("resync",)}),
    (REQUEST, "'rederive', 'running'", {"requests": ("rederive",)}),
    (REQUEST, "'repair', 'new'", {"requests": ("repair",)}),
    (REQUEST, "'rederive', 'done'", {}),
    (REQUEST, "'discard', 'new'", {}),
    (COPIED, "'resync', 'public.users', to_timestamp(5), to_timestamp(7)", {"rewritten": {"public.users": 7.0}}),
    (COPIED, "'resync', 'public.users', to_timestamp(5), NULL", {"rewritten": {"public.users": 5.0}}),
    (DIGEST, "'public.orders', 'a', to_timestamp(9), NULL, NULL", {"rewritten": {"public.orders": 9.0}}),
    (
        DIGEST,
        "'public.orders', 'a', to_timestamp(9), 'b', to_timestamp(11)",
        {"rewritten": {"public.orders": 11.0}, "undone": ("public.orders",)},
    ),
]


async def test_each_fact_is_read(store: PostgresProofStore, upgraded_database: Database) -> None:
    """Each table of the schema says its own, of this connector's feed alone."""
    for (table, columns), values, facts in FACTS:
        statement = f"INSERT INTO replicator.{table} (connector, feed, {columns}) VALUES ('crm', %s, {values})"
        upgraded_database.execute(statement, ["reverse"])
        assert TargetFacts() == await store.facts(MAPPINGS)
        upgraded_database.execute(statement, ["forward"])
        assert replace(TargetFacts(), **facts) == await store.facts(MAPPINGS), statement
        upgraded_database.execute(f"TRUNCATE replicator.{table}")


async def test_the_newest_whole_verification_counts(store: PostgresProofStore, upgraded_database: Database) -> None:
    """Parts, conditions and samples are none; one that has not ended counts where no other has."""
    for scope in (
        WHOLE.replace("[]", '["public.users"]'),
        WHOLE.replace("null", '"id < 5"'),
        WHOLE.replace("100.0", "5"),
    ):
        verified(upgraded_database, scope)
    assert (await store.facts(MAPPINGS)).run is None
    begun = verified(upgraded_database, result=None)
    run = (await store.facts(MAPPINGS)).run
    assert run is not None
    assert (begun, False) == (run.id, run.finished)
    wrong = (
        '{"ok": false, "tables": [{"table": "a.b", "missing": 0, "extra": 0, "different": 0, "unsettled": 2},'
        ' {"table": "a.c", "missing": 0, "extra": 0, "different": 0, "unsettled": 0}],'
        ' "checks": [{"name": "x", "ok": null, "severity": "block"}, {"name": "y", "ok": false, "severity": "warn"}]}'
    )
    ended = verified(upgraded_database, result=wrong)
    verified(upgraded_database, result=None)
    run = (await store.facts(MAPPINGS)).run
    assert run is not None
    assert RunFacts(ended, run.started_at, True, tables=["a.b"], unsettled=True, checks=["x"]) == run


async def test_a_certificate_is_kept_and_voided_once(store: PostgresProofStore, upgraded_database: Database) -> None:
    """The newest is read with the time at which its verification began; the first reason that voids it stays."""
    run = verified(upgraded_database)
    await store.issue(run, {"things": {}})
    number = await store.issue(run, {"things": {"a": 1}})
    stored = (await store.facts(MAPPINGS)).certificate
    assert stored is not None
    assert (number, {"things": {"a": 1}}, None) == (stored.id, stored.content, stored.void_reason)
    assert 55 < stored.issued_at - stored.verified_since < 600
    await store.void(number, "first")
    await store.void(number, "second")
    stored = (await store.facts(MAPPINGS)).certificate
    assert stored is not None
    assert ("first", True) == (stored.void_reason, stored.void_at is not None)
    upgraded_database.execute(
        "DELETE FROM replicator.verification; UPDATE replicator.certificate SET issued_at = now() - interval '31 days'"
    )
    stored = (await store.facts(MAPPINGS)).certificate
    assert stored is not None
    assert stored.verified_since == stored.issued_at
    newest = await store.issue(verified(upgraded_database), {"things": {}})
    assert [(newest,)] == upgraded_database.execute("SELECT id FROM replicator.certificate")


async def test_results_over_time(store: PostgresProofStore, upgraded_database: Database) -> None:
    """What says the same again is counted in one row; what says another thing, or is undecided, is a new one; and what
    blocks is a fact until it is ok, or until nobody looks at it any more.
    """
    failed = replace(CHECK, ok=False, message="1 row: id 7", keys=("7",))
    undecided = replace(CHECK, ok=None, message="")
    warned = replace(CHECK, name="other", ok=False, severity=Severity.WARN)
    run = verified(upgraded_database)
    for results in ([CHECK, warned], [CHECK], [failed, warned], [failed], [undecided], [CHECK]):
        await store.record(results, run)
    rows = upgraded_database.execute("SELECT name, ok, times, keys FROM replicator.check_result ORDER BY name, id")
    assert [
        ("balance", True, 2, []),
        ("balance", False, 2, ["7"]),
        ("balance", None, 1, []),
        ("balance", True, 1, []),
        ("other", False, 2, []),
    ] == rows
    assert [("balance", True), ("other", False)] == [(one["name"], one["ok"]) for one in await store.newest()]
    assert {} == (await store.facts(MAPPINGS)).failed_checks
    await store.record([undecided], run)
    assert {"balance": "undecided"} == (await store.facts(MAPPINGS)).failed_checks
    await store.record([failed], None)
    assert {"balance": "failed"} == (await store.facts(MAPPINGS)).failed_checks
    upgraded_database.execute("UPDATE replicator.check_result SET checked_at = now() - interval '31 days'")
    verified(upgraded_database)
    assert {} == (await store.facts(MAPPINGS)).failed_checks
    await store.record([], None)
    assert 2 == len(upgraded_database.execute("SELECT id FROM replicator.check_result"))


async def test_a_database_is_known_by_what_outlives_a_restart(
    make_database: MakeDatabase, server15: PostgresServer
) -> None:
    """Made again it is another one; another cluster's is, too; and a role without any rights can tell."""
    one, other = make_database(), make_database(server15)
    first = await read_identity(one.dsn, "test")
    one.execute("CREATE ROLE nobody_at_all LOGIN")
    try:
        assert first == await read_identity(one.server.dsn(one.name, "nobody_at_all"), "test")
    finally:
        one.execute("DROP ROLE nobody_at_all")
    assert first.system != (await read_identity(other.dsn, "test")).system
    one.server.drop_database(one.name)
    one.server.create_database(one.name)
    again = await read_identity(one.dsn, "test")
    assert (first.system, first.timeline) == (again.system, again.timeline)
    assert first.database != again.database


async def test_a_promoted_server_is_on_another_timeline(make_server: MakeServer) -> None:
    """A restore or a failover is seen at once, not only after the next checkpoint."""
    server = make_server(15)
    server.create_database("a")
    before = await read_identity(server.dsn("a"), "test")
    server.stop()
    (server.data / "standby.signal").touch()
    server.start()
    server.execute("SELECT pg_promote()")
    after = await read_identity(server.dsn("a"), "test")
    assert (before.system, before.database) == (after.system, after.database)
    assert after.timeline == before.timeline + 1
