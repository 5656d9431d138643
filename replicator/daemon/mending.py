"""What is to be repaired, as the target's tables say; and the running daemon asked to do it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from replicator.daemon.asking import UNHEARD_SECONDS, begun, unserved
from replicator.daemon.databases import FORWARD, old_dsn, upgraded_dsn
from replicator.daemon.inspection import open_ends, served
from replicator.daemon.verifying import choose, mappings_of
from replicator.daemon.views import chunk_rows, open_views, rederive_document
from replicator.engine.rederive import Comparison, Rederived
from replicator.engine.verify.pace import Pace
from replicator.postgres.digest_state import PostgresDigestStore
from replicator.postgres.job_state import JobState
from replicator.postgres.verify_state import open_verify_store
from replicator.postgres.versions import PostgresVersionedReader
from replicator.verification import Kind

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.mapping import Mapping as TableMapping
    from replicator.mapping import Mappings
    from replicator.verification import OpenDivergence

PAGE_ROWS: Final = 10_000
KEYS_MAX: Final = 20
"""Keys that a plan names, of each table and kind."""
POLL_SECONDS: Final = 0.2
_STATEMENTS: Final = {Kind.MISSING: "INSERT", Kind.DIFFERENT: "UPDATE", Kind.EXTRA: "DELETE"}

Watch = Callable[[Mapping[str, Any]], None]


@dataclass
class TableRepair:
    """What is to be done in one upgraded table.

    Attributes:
        table: its qualified name.
        statements: how many rows by `INSERT`, `UPDATE`, `DELETE`.
        keys: the first of them, by statement.
        waiting: rows whose aggregate waits in the dead letter queue, which is left alone.
        without_key: its rows have no key: left alone as well.

    """

    table: str
    statements: Counter[str] = field(default_factory=Counter)
    keys: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    waiting: int = 0
    without_key: int = 0

    def add(self, one: OpenDivergence) -> None:
        """One row that differs."""
        statement = _STATEMENTS[one.kind]
        self.statements[statement] += 1
        named = self.keys.setdefault(statement, [])
        if len(named) < KEYS_MAX:
            named.append(tuple(part.decode("utf-8", "replace") for part in one.key))

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "table": self.table,
            "statements": dict(sorted(self.statements.items())),
            "keys": {statement: [list(key) for key in keys] for statement, keys in sorted(self.keys.items())},
            "dead_letters": self.waiting,
            "without_key": self.without_key,
        }


@dataclass
class RepairPlan:
    """What a repair would do.

    Attributes:
        tables: by upgraded table.
        digests: of the mappings concerned, by name.
        upto: the highest number of a divergence that was seen.

    """

    tables: dict[str, TableRepair] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    upto: int = 0

    @property
    def rows(self) -> int:
        """That would be written."""
        return sum(table.statements.total() for table in self.tables.values())

    @property
    def left(self) -> int:
        """That would be left alone."""
        return sum(table.waiting + table.without_key for table in self.tables.values())


async def plan_repair(connector: Connector, tables: Sequence[str]) -> RepairPlan:
    """What is open in the target; reads, and changes nothing.

    Raises:
        ReplicatorError: CONFIG of an unknown table, or before the feed has begun; CONNECTION, PERMISSION.

    """
    plan = RepairPlan()
    async with open_ends(connector) as ends, compiled(connector) as mappings:
        await begun(ends)
        letters = {(one.mapping, one.key) for one in await ends.state.dead_letters(FORWARD)}
        async with open_verify_store(upgraded_dsn(connector), connector.name, FORWARD) as store:
            for mapping in choose(mappings, tables):
                after = 0
                while page := await store.divergences(mapping.name, after, PAGE_ROWS):
                    after = page[-1].id
                    plan.upto = max(plan.upto, after)
                    plan.digests[mapping.name] = mapping.digest
                    for one in page:
                        _add(plan, mapping, one, letters)
    return plan


def _add(plan: RepairPlan, mapping: TableMapping, one: OpenDivergence, letters: set[tuple[str, Any]]) -> None:
    name = str(one.table)
    table = plan.tables.setdefault(name, TableRepair(name))
    if mapping.multiset:
        table.without_key += 1
    elif one.source_key is not None and (mapping.name, one.source_key) in letters:
        table.waiting += 1
    else:
        table.add(one)


@asynccontextmanager
async def compiled(connector: Connector) -> AsyncIterator[Mappings]:
    """The mappings of the connector's files as they are now."""
    old, upgraded = (
        PostgresVersionedReader(dsn, f"{connector.name}/repair", connector=connector.name, feed=FORWARD)
        for dsn in (old_dsn(connector), upgraded_dsn(connector))
    )
    try:
        yield await mappings_of(connector, old, upgraded)
    finally:
        await old.close()
        await upgraded.close()


@dataclass(frozen=True)
class JobAnswer:
    """What became of a job.

    Attributes:
        request: its number.
        done: it was carried out; else `message` says why not.
        message: for people.
        detail: for scripts; None where nothing was told.

    """

    request: int
    done: bool
    message: str
    detail: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        known = dict(self.detail or {})
        known.pop("ok", None)
        return {"ok": self.ok, "request": self.request, "message": self.message, **known}

    @property
    def ok(self) -> bool:
        """Carried out, and nothing is left."""
        return self.done and bool((self.detail or {}).get("ok"))


async def ask_job(
    connector: Connector, kind: str, payload: Mapping[str, Any], timeout_seconds: float, watch: Watch | None = None
) -> JobAnswer:
    """Have the running daemon carry out a job, and wait for its end.

    Args:
        connector: its file.
        kind: of the request.
        payload: of the request.
        timeout_seconds: for how long.
        watch: is shown how far it is.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION; CONFIG before the feed has begun.

    """
    async with open_ends(connector) as ends:
        await begun(ends)
        request = await ends.state.ask(FORWARD, kind, payload)
        state = JobState(upgraded_dsn(connector), connector.name)
        began, unheard = time.monotonic(), False
        while True:
            now = await ends.state.request(request.id)
            detail = None if now is None or now.status == "new" else await state.detail(request.id)
            if now is None:
                return JobAnswer(request.id, done=False, message="the request was removed")
            if now.status in ("done", "failed"):
                return JobAnswer(request.id, now.status == "done", now.message or "", detail)
            if watch is not None and detail is not None:
                watch(detail)
            seconds = time.monotonic() - began
            if now.status == "new" and seconds >= UNHEARD_SECONDS and not unheard:
                unheard = True
                if not await served(ends):
                    return JobAnswer(request.id, done=False, message=unserved(request.id))
            if seconds >= timeout_seconds:
                what = "has not been begun" if now.status == "new" else "is being carried out"
                message = f"request {request.id} {what}; it goes on"
                return JobAnswer(request.id, done=False, message=message, detail=detail)
            await asyncio.sleep(POLL_SECONDS)


# -- rederive ----------------------------------------------------------------------------------------------------------


async def digests_of(connector: Connector, tables: Sequence[str]) -> dict[str, str]:
    """The digests of the mappings of these tables, by name, as the files are now.

    Raises:
        ReplicatorError: CONFIG of an unknown table; CONNECTION, PERMISSION.

    """
    async with compiled(connector) as mappings:
        return {mapping.name: mapping.digest for mapping in await _meant(connector, mappings, tables)}


async def _meant(connector: Connector, mappings: Mappings, tables: Sequence[str]) -> list[TableMapping]:
    """The mappings of these tables; without any, those whose rows are not all by the transform of the files."""
    if tables:
        return choose(mappings, tables)
    known = await PostgresDigestStore(upgraded_dsn(connector), connector.name, FORWARD).mapping_digests()
    return [
        mapping
        for mapping in mappings.all
        if mapping.name in known and (known[mapping.name].mixed or known[mapping.name].digest != mapping.digest)
    ]


async def compare_derived(connector: Connector, tables: Sequence[str], watch: Watch | None = None) -> dict[str, Any]:
    """Count the rows that transforms, as the files are now, make otherwise than they are; of these tables, or of all
    whose transform has changed.

    Beside the daemon, which may run the files as they were.

    Raises:
        ReplicatorError: CONFIG of an unknown table; CONNECTION, also when no daemon applies anything.

    """
    done: dict[str, Rederived] = {}
    pace = Pace(connector.verify.rows_per_second_max)
    async with open_views(connector) as views:
        for mapping in await _meant(connector, views.mappings, tables):
            if mapping.multiset:
                done[mapping.name] = Rederived(without_key=True)
                continue

            async def told(result: Rederived, name: str = mapping.name) -> None:
                done[name] = result
                if watch is not None:
                    watch(rederive_document(done))

            comparison = Comparison(
                mapping,
                source=views.source,
                target=views.target,
                reached=views.reached,
                pace=pace,
                chunk_rows=chunk_rows(connector),
                told=told,
            )
            await comparison.run()
    return rederive_document(done)
