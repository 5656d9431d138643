"""One row's story, from both databases: where it comes from, what is made of it, who wrote it, what is known of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from replicator.daemon.databases import FORWARD, old_dsn, upgraded_dsn
from replicator.daemon.investigating import open_investigator, transforms_of
from replicator.daemon.verifying import mappings_of, reached_by_target
from replicator.engine.verify.brackets import Verdict, judge, suspect
from replicator.engine.verify.looks import Looker
from replicator.engine.verify.places import GivenKey, Place, find_places
from replicator.engine.verify.stories import Stories
from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.findings import open_findings
from replicator.postgres.lsn import format_lsn
from replicator.postgres.state import open_state
from replicator.postgres.versions import PostgresVersionedReader
from replicator.postgres.writers import PostgresWriters, commit_times
from replicator.tables import TableName
from replicator.verification import Finding

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.engine.verify.brackets import Look
    from replicator.engine.verify.causes import Transforms
    from replicator.engine.verify.investigate import Investigator
    from replicator.engine.verify.keys import Row
    from replicator.engine.verify.stories import FoundRow, SideStory, Story
    from replicator.events import Key
    from replicator.mapping import Side
    from replicator.verification import Reached

_READERS: Final = 4
_PAUSE_SECONDS: Final = 0.05
_PAUSE_SECONDS_MAX: Final = 0.5


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        table: of either side.
        key: `name=value`, or plain values in the order of the key's columns.
        patience_seconds: how long a row that differs is looked at until it is decided.
        values: tell the rows' values, too.

    """

    table: str
    key: Sequence[str]
    patience_seconds: float = 10.0
    values: bool = False


async def explain(connector: Connector, question: Question) -> dict[str, Any]:
    """The story of a row, as JSON: one entry in `stories` for each aggregate that is meant.

    Raises:
        ReplicatorError: CONFIG of a table or key that there isn't; DATA of a value that is none; CONNECTION.

    """
    try:
        table = TableName.parse(question.table)
    except ValueError as error:
        raise ReplicatorError(str(error), kind=ErrorKind.CONFIG) from error
    async with AsyncExitStack() as stack:
        readers = []
        for dsn in (old_dsn(connector), upgraded_dsn(connector)):
            reader = PostgresVersionedReader(
                dsn, f"{connector.name}/explain", connector=connector.name, feed=FORWARD, connections_max=_READERS
            )
            stack.push_async_callback(reader.close)
            readers.append(reader)
        old, upgraded = readers
        mappings = await mappings_of(connector, old, upgraded)
        places = await find_places(mappings.all, table, GivenKey.parse(question.key), old, upgraded)
        writers = PostgresWriters(upgraded_dsn(connector), connector.name)
        stack.push_async_callback(writers.close)
        teller = _Teller(
            connector=connector,
            question=question,
            ends=(old, upgraded),
            writers=writers,
            reached=await stack.enter_async_context(reached_by_target(connector, mappings)),
            investigator=await stack.enter_async_context(open_investigator(connector, mappings.all, old, upgraded)),
            transforms=await transforms_of(connector, mappings.all),
        )
        stories = [await teller.tell(place) for place in places]
    return {
        "connector": connector.name,
        "table": str(table),
        "key": list(question.key),
        "equal": all(one["verdict"] == "equal" for one in stories),
        "stories": stories,
        "last_verification": await _last_verification(connector),
    }


@dataclass(frozen=True)
class _Decision:
    """Whether an aggregate is as it should be.

    Attributes:
        verdict: `equal`, `differs` or `undecided`.
        because: why it is undecided.
        look: the last one that found it different.

    """

    verdict: str
    because: str = ""
    look: Look | None = None


@dataclass
class _Teller:
    """Tells stories."""

    connector: Connector
    question: Question
    ends: tuple[PostgresVersionedReader, PostgresVersionedReader]
    writers: PostgresWriters
    reached: Reached
    investigator: Investigator
    transforms: dict[str, Transforms]

    async def tell(self, place: Place) -> dict[str, Any]:
        """One aggregate's."""
        mapping, (old, upgraded) = place.mapping, self.ends
        decision = await self._decide(place)
        stories = Stories(mapping, old, upgraded, self.connector.verify.tolerances)
        story = await self._story(stories, place)
        state = await self._state(place)
        one = self.transforms[mapping.name]
        return {
            "mapping": mapping.name,
            "transform": {
                "function": mapping.label,
                "digest": mapping.digest,
                "writes": one.writes,
                "rows_from_before": one.rows,
                "changed_at": one.changed_at,
            },
            "verdict": decision.verdict,
            "because": decision.because or None,
            "findings": await self._causes(place, decision),
            "source": await self._source(place, story),
            "target": [await self._target(side) for side in ([] if story is None else story.sides)],
            "deferred": story is not None and story.deferred,
            **state,
        }

    async def _story(self, stories: Stories, place: Place) -> Story | None:
        if place.key is not None:
            return (await stories.of([place.key]))[place.key]
        assert place.target is not None
        at, key = place.target
        return (await stories.lost(at, [key])).get(key)

    # -- is it as it should be? ----------------------------------------------------------------------------------------

    async def _decide(self, place: Place) -> _Decision:
        looker = Looker(place.mapping, *self.ends, self.reached, self.connector.verify.tolerances)
        newest: list[Look] = []
        try:
            async with asyncio.timeout(self.question.patience_seconds):
                return await self._looked(looker, place, newest)
        except TimeoutError:
            look = newest[-1] if newest else None
            what = "it never stood still" if newest else "the feed has not passed the moment of the first look"
            if look is not None and look.error is not None:
                what = look.error.message
            return _Decision("undecided", f"{what} within {self.question.patience_seconds:g} s", look)
        except ReplicatorError as error:
            if error.kind is not ErrorKind.CONNECTION:
                raise
            return _Decision("undecided", error.message)

    async def _looked(self, looker: Looker, place: Place, newest: list[Look]) -> _Decision:
        look = await self._look(looker, place)
        if look is None:
            return _Decision("equal")
        one, pause = suspect(look), _PAUSE_SECONDS
        while True:
            newest.append(look)
            if look.error is not None:
                return _Decision("undecided", look.error.message, look)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSE_SECONDS_MAX)
            look = await self._look(looker, place)
            match judge(one, look):
                case Verdict.EQUAL:
                    return _Decision("equal")
                case Verdict.DIVERGED:
                    return _Decision("differs", look=look)
                case Verdict.IN_FLIGHT:
                    assert look is not None

    async def _look(self, looker: Looker, place: Place) -> Look | None:
        if place.key is not None:
            return (await looker.by_key([place.key])).looks.get(place.key)
        assert place.target is not None
        at, key = place.target
        return (await looker.lost(at, [key]))[0].get(key)

    async def _causes(self, place: Place, decision: _Decision) -> list[dict[str, Any]]:
        if decision.verdict != "differs" or decision.look is None:
            return []
        mapping, look = place.mapping, decision.look
        evidence: dict[str, Any] = {"lsn": look.lsn}
        if look.letter is not None:
            evidence["dead_letter"] = look.letter
        findings = [
            Finding(
                mapping.name,
                mapping.targets[each.side].table.name,
                each.key,
                each.kind,
                each.columns,
                source_key=place.key,
                target_key=None if place.target is None else place.target[1],
                evidence=evidence,
            )
            for each in look.differences
        ]
        return [
            {
                "table": str(one.table),
                "key": _texts(one.key),
                "kind": str(one.kind),
                "columns": list(one.columns),
                "cause": str(one.cause),
                "evidence": dict(one.evidence),
            }
            for one in await self.investigator.explained(findings)
        ]

    # -- both sides ----------------------------------------------------------------------------------------------------

    async def _source(self, place: Place, story: Story | None) -> dict[str, Any]:
        tables = [] if story is None or story.sources is None else story.sources
        xids = {row.xmin for rows in tables for row in rows}
        dsn = old_dsn(self.connector)
        times = await commit_times(dsn, f"{self.connector.name}/explain", xids) if xids else {}
        return {
            "key": None if place.key is None else _texts(place.key),
            "exists": bool(tables),
            "lsn": format_lsn(story.lsn) if story is not None and story.lsn else None,
            "tables": [
                {
                    "table": str(side.table.name),
                    "rows": [{**self._row(side, row), "committed_at": times.get(row.xmin)} for row in rows],
                }
                for side, rows in zip(place.mapping.sources, tables, strict=False)
            ],
        }

    async def _target(self, side: SideStory) -> dict[str, Any]:
        xids = {row.xmin for row in side.found}
        writers = await self.writers.of(xids) if xids else {}
        rows = []
        for row in side.found:
            writer = writers[row.xmin]
            by = {True: "the feed", False: writer.origin or "another session", None: None}[writer.ours]
            rows.append(
                {
                    **self._row(side, row),
                    "owned": row.owned,
                    "committed_at": writer.committed_at,
                    "written_by": by,
                    "unknown_because": writer.unknown_because or None,
                }
            )
        return {
            "table": str(side.table.name),
            "key": None if side.key is None else _texts(side.key),
            "columns": sorted({name for row in side.expected for name in row}),
            "expected": len(side.expected),
            **({"expected_values": [_shown(row) for row in side.expected]} if self.question.values else {}),
            "rows": rows,
            "differences": [
                {"kind": str(each.kind), "key": _texts(each.key), "columns": list(each.columns)}
                for each in side.differences
            ],
        }

    def _row(self, side: Side | SideStory, row: FoundRow) -> dict[str, Any]:
        names = side.table.key or side.key or ()
        own = {"key": {name: _text(row.values[name]) for name in names if name in row.values}, "xmin": row.xmin}
        return {**own, "values": _shown(row.values)} if self.question.values else own

    # -- what is known of it -------------------------------------------------------------------------------------------

    async def _state(self, place: Place) -> dict[str, Any]:
        connector, mapping = self.connector, place.mapping
        source = None if place.key is None else tuple(_texts(place.key))
        target = None if place.target is None else tuple(_texts(place.target[1]))
        async with open_state(upgraded_dsn(connector), connector.name) as state:
            feeds = await state.feeds()
            letters = await state.dead_letters(FORWARD) if feeds else []
        async with open_findings(upgraded_dsn(connector), connector.name, FORWARD) as findings:
            known = [] if findings is None else await findings.of_key(mapping.name, source, target)
        return {
            "dead_letters": [
                {"id": one.id, "kind": one.kind, "message": one.message, "position": one.position}
                for one in letters
                if one.mapping == mapping.name and one.key == place.key
            ],
            "divergences": [one.document() for one in known],
        }


async def _last_verification(connector: Connector) -> dict[str, Any] | None:
    async with open_findings(upgraded_dsn(connector), connector.name, FORWARD) as findings:
        runs = [] if findings is None else await findings.runs([], 1)
    if not runs:
        return None
    run = runs[0]
    return {
        "run": run.id,
        "finished_at": run.finished_at,
        "age_seconds": round(max(0.0, time.time() - run.finished_at), 3),
        "ok": bool(run.result.get("ok")),
    }


def _shown(row: Row) -> dict[str, str | None]:
    return {name: _text(value) for name, value in row.items()}


def _text(value: object) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else None


def _texts(key: Key) -> list[str]:
    return [part.decode(errors="replace") for part in key]
