"""What the target demands by itself, and nobody has checked: replicated rows are written in replica role, in which the
server's own triggers for foreign keys and deferrable keys don't fire.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, cast

from replicator.checks import CheckKind, Severity
from replicator.engine.checks.answers import key_text, listed
from replicator.engine.checks.looks import KEYS_MAX, Ends, Found, Rows, confirmed

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from replicator.checks import ForeignKeyRule, SequenceRule, UniqueRule
    from replicator.events import Key

CHUNK_ROWS: Final = 200_000
"""Rows of one statement, and so of one snapshot."""
SUSPECTS_MAX: Final = 1_000
"""Orphans of one constraint that are counted."""


def foreign_key_name(rule: ForeignKeyRule) -> str:
    """The check's name."""
    return f"{CheckKind.FOREIGN_KEY} {rule.table.name} {rule.name}"


def unique_name(rule: UniqueRule) -> str:
    """The check's name."""
    return f"{CheckKind.UNIQUE} {rule.table.name} {rule.name}"


def sequence_name(rule: SequenceRule) -> str:
    """The check's name: a sequence may fill several columns."""
    return f"{CheckKind.SEQUENCE} {rule.sequence} {rule.table.name}.{rule.column}"


def foreign_key_severity(rule: ForeignKeyRule) -> Severity:
    """One that the server was told not to enforce stands in nobody's way."""
    return Severity.BLOCK if rule.enforced else Severity.WARN


async def look_at_foreign_key(rule: ForeignKeyRule, ends: Ends) -> Found:
    """Whether every row that refers to something has it; range by range of its table."""
    position = await ends.caught_up()
    suspects = await _suspects(rule, ends)
    if not suspects:
        return Found(ok=True, message="no orphan", position=position)

    async def look() -> Rows:
        async with ends.target.checking() as snapshot:
            found = await snapshot.orphans_of(rule, suspects)
            return Rows(Counter(cast("list[Hashable]", found)), held=await snapshot.deferred() > 0)

    ok, rows, _ = await confirmed(look, ends)
    if ok is None:
        return Found(ok=None, message="rows refer to rows that come and go", position=position)
    if ok and len(suspects) >= SUSPECTS_MAX:
        return Found(ok=None, message="too many rows were in flight", position=position)
    if ok:
        return Found(ok=True, message="no orphan", position=position)
    state = "" if rule.validated else " (the constraint is NOT VALID)"
    return _wrong(rows, f"orphan{'s' * (rows.total() != 1)} of {rule.referenced}{state}", position)


async def _suspects(rule: ForeignKeyRule, ends: Ends) -> list[tuple[bytes | None, ...]]:
    found: list[tuple[bytes | None, ...]] = []
    table = rule.table
    after: Key | None = None
    while len(found) < SUSPECTS_MAX:
        async with ends.target.checking() as snapshot:
            upto = await snapshot.count_before(table, table.key, after, CHUNK_ROWS) if table.key else None
            found += await snapshot.orphans(rule, after, upto, SUSPECTS_MAX - len(found))
        if upto is None:
            break
        after = upto
    return list(dict.fromkeys(found))


async def look_at_unique_key(rule: UniqueRule, ends: Ends) -> Found:
    """Whether no two rows share a deferrable key."""

    async def look() -> Rows:
        async with ends.target.checking() as snapshot:
            found = await snapshot.duplicates(rule, SUSPECTS_MAX)
            held = await snapshot.deferred() > 0
            return Rows(Counter(cast("list[Hashable]", found)), more=len(found) >= SUSPECTS_MAX, held=held)

    ok, rows, position = await confirmed(look, ends)
    if ok is None:
        return Found(ok=None, message="its values never stood still", position=position)
    if ok:
        return Found(ok=True, message="no value twice", position=position)
    return _wrong(rows, f"value{'s' * (rows.total() != 1)} of ({', '.join(rule.columns)}) in several rows", position)


async def look_at_sequence(rule: SequenceRule, ends: Ends) -> Found:
    """Whether the next value is past the column's: what replication writes takes none from it."""
    position = await ends.caught_up()
    async with ends.target.checking() as snapshot:
        state = await snapshot.state(rule)
    if not state.behind:
        return Found(ok=True, message=f"next is {state.upcoming}", position=position)
    assert state.furthest is not None
    cycle = "; it cycles, so it may be meant to" if rule.cycles else ""
    name = str(rule.sequence).replace("'", "''")
    message = (
        f"next is {state.upcoming}, and the column is at {state.furthest}{cycle}; "
        f"before the switch: SELECT setval('{name}', {state.furthest});"
    )
    return Found(ok=False, message=message, keys=(str(state.upcoming),), position=position)


def _wrong(rows: Counter[Hashable], what: str, position: int) -> Found:
    keys = [key_text(cast("Sequence[object]", row)) for row in rows]
    total = len(keys)
    atleast = "at least " if total >= SUSPECTS_MAX else ""
    message = f"{atleast}{total:,} {what}: {listed(keys, total, KEYS_MAX)}"
    return Found(ok=False, message=message, keys=tuple(keys[:KEYS_MAX]), position=position)
