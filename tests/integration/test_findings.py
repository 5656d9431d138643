"""What verification has found, read as it comes and by page, whoever writes it and in whichever order it commits."""

from collections.abc import AsyncIterator

import pytest

from replicator.postgres.findings import Findings, Told, open_findings
from replicator.postgres.verify_state import PostgresVerifyStore, open_verify_store
from replicator.tables import TableName
from replicator.verification import Cause, Finding, Kind, Scope
from tests.fix_postgres import Database

TABLE = TableName("crm", "users")


def finding(key: str, *columns: str, kind: Kind = Kind.DIFFERENT, cause: Cause = Cause.UNKNOWN) -> Finding:
    own = (key.encode(),)
    return Finding("public.users", TABLE, own, kind, columns, source_key=own, target_key=own, cause=cause)


@pytest.fixture
async def store(upgraded_database: Database) -> AsyncIterator[PostgresVerifyStore]:
    """Where findings go."""
    async with open_verify_store(upgraded_database.dsn, "shop", "forward") as opened:
        yield opened


@pytest.fixture
async def findings(store: PostgresVerifyStore, upgraded_database: Database) -> AsyncIterator[Findings]:
    """What is read of them, over a session of its own."""
    async with open_findings(upgraded_database.dsn, "shop", "forward") as opened:
        assert opened is not None
        yield opened


async def told(findings: Findings) -> list[tuple[str, bool, bool]]:
    """Key, whether it is open, and whether it is new."""
    return [(one.key[0], one.closed_at is None, one.new) for one in await findings.changed()]


async def test_what_is_opened_changed_and_closed_is_told_once(store: PostgresVerifyStore, findings: Findings) -> None:
    """Opened, seen again with another cause, closed, opened again: each once; seen again as it was: not at all."""
    await store.record([finding("0", "a")])
    assert [] == await told(findings), "what was there before is known"
    await store.record([finding("1", "a"), finding("2", "a")])
    assert [("1", True, True), ("2", True, True)] == await told(findings)
    assert [] == await told(findings)
    await store.record([finding("1", "a"), finding("2", "a", cause=Cause.ROUNDING)])
    assert [("2", True, False)] == await told(findings)
    (one, two, three) = await store.divergences("public.users", 0, 10)
    await store.close([one.id, three.id])
    assert [("0", False), ("2", False)] == [(key, is_open) for key, is_open, _ in await told(findings)]
    await store.record([finding("2", "a")])
    assert [("2", True, True)] == await told(findings)
    assert {(str(TABLE), "different"): 2} == await findings.open()
    assert {"1", "2"} == {found.key[0] for found in await findings.newest()}
    assert two.id in {found.id for found in await findings.page(after=0, rows=10, is_open=True)}


async def test_what_is_seen_twice_between_two_looks_is_new(store: PostgresVerifyStore, findings: Findings) -> None:
    """However often passes find it, before somebody looks or after: one opening."""
    assert [] == await told(findings)
    for cause in (Cause.UNKNOWN, Cause.UNKNOWN, Cause.ROUNDING):
        await store.record([finding("1", "a", cause=cause)])
    assert [("1", True, True)] == await told(findings)
    await store.record([finding("1", "a")])
    assert [("1", True, False)] == await told(findings)


async def test_a_new_session_goes_on_where_the_one_before_it_ended(
    store: PostgresVerifyStore, upgraded_database: Database
) -> None:
    """What happens while nobody can read is told afterwards, once."""
    known = Told()
    async with open_findings(upgraded_database.dsn, "shop", "forward", known) as first:
        assert first is not None
        assert [] == await told(first)
        await store.record([finding("1", "a")])
        assert [("1", True, True)] == await told(first)
    await store.record([finding("2", "a")])
    await store.close([one.id for one in await store.divergences("public.users", 0, 1)])
    async with open_findings(upgraded_database.dsn, "shop", "forward", known) as second:
        assert second is not None
        assert [("2", True, True), ("1", False, False)] == await told(second)
        assert [] == await told(second)


async def test_who_commits_late_is_not_missed(
    store: PostgresVerifyStore, findings: Findings, upgraded_database: Database
) -> None:
    """A finding whose transaction began before others, and ends after they were told, is told when it is there."""
    assert [] == await told(findings)
    late = (
        "INSERT INTO replicator.divergence (connector, feed, mapping, table_schema, table_name, key, kind, cause) "
        "VALUES ('shop', 'forward', 'public.users', 'crm', 'users', '{9}', 'extra', 'unknown')"
    )
    with upgraded_database.connect() as session:
        session.execute(late)
        await store.record([finding("1", "a")])
        assert [("1", True, True)] == await told(findings)
        await store.record([finding("2", "a")])
        assert [("2", True, True)] == await told(findings)
        session.commit()
    assert [("9", True, True)] == await told(findings)
    assert [] == await told(findings)


async def test_pages_are_in_order_and_whole(store: PostgresVerifyStore, findings: Findings) -> None:
    """By number, by state, by table; whatever page size, each once."""
    await store.record([finding(str(number), "a") for number in range(25)])
    await store.close([one.id for one in (await store.divergences("public.users", 0, 5))])
    seen: list[str] = []
    after = 0
    while page := await findings.page(after=after, rows=4, is_open=True, table=TABLE):
        seen += [one.key[0] for one in page]
        after = page[-1].id

    assert 20 == len(set(seen)) == len(seen)
    assert 5 == len(await findings.page(after=0, rows=100, is_open=False))
    assert 25 == len(await findings.page(after=0, rows=100))
    assert [] == await findings.page(after=0, rows=100, table=TableName("crm", "others"))
    (one,) = await findings.of_key("public.users", ("7",), None)
    assert "7" == one.document()["key"][0]


async def test_ended_verifications_of_everything(
    store: PostgresVerifyStore, findings: Findings, upgraded_database: Database
) -> None:
    """Those of a part are none; the daemon's old passes are forgotten, but for what a certificate rests on."""
    ids = []
    for scope in (*[Scope(continuous=True)] * 3, Scope(tables=("public.users",))):
        run = await store.begin(scope)
        await store.finish(run, {"ok": True})
        ids.append(run.id)
    *ids, part = ids

    assert [ids[2], ids[1]] == [run.id for run in await findings.runs([], 2)]
    assert ids[:2][::-1] == [run.id for run in await findings.runs([ids[2]], 9)]
    upgraded_database.execute("UPDATE replicator.verification SET saved_at = now() - interval '30 days'")
    upgraded_database.execute(
        "INSERT INTO replicator.certificate (connector, feed, verification, content) "
        "VALUES ('shop', 'forward', %s, '{}')",
        [ids[0]],
    )
    await store.forget(7)
    assert {ids[0], part} == {row[0] for row in upgraded_database.execute("SELECT id FROM replicator.verification")}
