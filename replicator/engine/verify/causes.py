"""Why a row is wrong, as far as it can be proven. Pure decisions over facts that `investigate` collects.

- dead_letter: a change of its aggregate waits in the dead letter queue.
- outside_write: by the target's own word, its row was committed last by somebody who is none of ours; or it was one of
  ours, and a trigger there fires for our rows, too.
- transform_changed: the row is from before the transform changed, or the feed writes by another one than compares.
- rounding: each value that differs is what its column, or a float on the way, can hold of the other.
- lag: it changes all the time, or the feed says that it isn't done with it; of what stays undecided alone.
- unknown: nothing of these is proven.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from replicator.rows import UnreadableValueError, load, value_oid
from replicator.verification import Cause, Kind

if TYPE_CHECKING:
    from replicator.authorship import Writer
    from replicator.engine.verify.brackets import Look
    from replicator.events import Value
    from replicator.tables import Column

FLOAT_DIGITS: Final = {"real": 6, "double precision": 15}
"""Decimal digits that a float certainly keeps."""
_HEADER: Final = 4  # what typmods of numeric are shifted by


@dataclass(frozen=True)
class Transforms:
    """Which transforms a mapping's rows are made by.

    Attributes:
        compares: the one of this process.
        writes: the one by which the feed writes; None: nobody knows.
        rows: the one of rows from before `changed_at`, where they are not all by `writes`.
        changed_at: seconds since the epoch.

    """

    compares: str
    writes: str | None = None
    rows: str | None = None
    changed_at: float | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of one finding.

    Attributes:
        kind: of the finding.
        columns: that differ.
        letter: number of a dead letter of its aggregate.
        writer: of the target's row; None where there is none, or it can't be told.
        triggers: of the target's table, which fire for rows that we write.
        transforms: see `Transforms`.
        rounded: columns that differ by rounding alone, and what rounds them.

    """

    kind: Kind
    columns: Sequence[str] = ()
    letter: int | None = None
    writer: Writer | None = None
    triggers: Sequence[str] = ()
    transforms: Transforms | None = None
    rounded: Mapping[str, str] = field(default_factory=dict)


def cause_of(facts: Facts) -> tuple[Cause, dict[str, Any]]:
    """The cause, and what proves it: no value of a row is in it."""
    evidence = {} if facts.writer is None else _written(facts.writer)
    if facts.letter is not None:
        return Cause.DEAD_LETTER, {**evidence, "dead_letter": facts.letter}
    writer = facts.writer
    if writer is not None and writer.ours is False:
        return Cause.OUTSIDE_WRITE, {**evidence, "written_by": writer.origin or "another session"}
    changed = _changed(facts)
    if changed is not None:
        return Cause.TRANSFORM_CHANGED, {**evidence, **changed}
    if facts.columns and all(column in facts.rounded for column in facts.columns):
        return Cause.ROUNDING, {**evidence, "rounded_by": dict(facts.rounded)}
    if writer is not None and writer.ours and facts.triggers:
        return Cause.OUTSIDE_WRITE, {**evidence, "written_by": "the feed", "triggers": list(facts.triggers)}
    return Cause.UNKNOWN, evidence


def _written(writer: Writer) -> dict[str, Any]:
    found: dict[str, Any] = {"target_xid": writer.xid}
    if writer.committed_at is not None:
        found["target_committed_at"] = datetime.fromtimestamp(writer.committed_at, UTC).isoformat()
    if writer.ours is None:
        found["writer"] = writer.unknown_because
    return found


def _changed(facts: Facts) -> dict[str, Any] | None:
    """How the transform has changed under the row; None: it hasn't, as far as is known."""
    one, writer = facts.transforms, facts.writer
    if one is None or one.writes is None:
        return None
    if one.compares != one.writes:
        return {"compared_by": one.compares, "written_by": one.writes}
    if one.rows is None or one.changed_at is None:
        return None
    if writer is not None and writer.committed_at is not None and writer.committed_at >= one.changed_at:
        return None  # it was written since
    since = datetime.fromtimestamp(one.changed_at, UTC).isoformat()
    return {"written_by": one.rows, "compared_by": one.compares, "changed_at": since}


def why_undecided(look: Look) -> Cause:
    """Why an aggregate could not be decided: it is on its way as long as anybody looks, or something else."""
    return Cause.LAG if look.held or look.before != look.after else Cause.UNKNOWN


# -- rounding ----------------------------------------------------------------------------------------------------------


def rounding(column: Column, expected: Value, found: Value) -> str | None:
    """What makes the one value of the other by rounding or cutting it off; None: nothing that we know.

    Args:
        column: of the target.
        expected: what it should hold, as text.
        found: what it holds.

    """
    if not isinstance(expected, bytes) or not isinstance(found, bytes):
        return None
    name = column.cast_type.removeprefix("pg_catalog.")
    if name in FLOAT_DIGITS or name == "numeric":
        return _number_rounding(column, name, expected, found)
    if name.startswith(("timestamp", "time")):
        return _moment_rounding(column, expected, found)
    return None


def _number_rounding(column: Column, name: str, expected: bytes, found: bytes) -> str | None:
    try:
        one, other = Decimal(expected.decode()), Decimal(found.decode())
    except (InvalidOperation, UnicodeDecodeError):
        return None
    if not one.is_finite() or not other.is_finite():
        return None
    distance = abs(one - other)
    if name in FLOAT_DIGITS:
        return column.type_name if distance <= _last(max(abs(one), abs(other)), FLOAT_DIGITS[name]) else None
    if column.base_typmod >= _HEADER:
        scale = (column.base_typmod - _HEADER) & 0x7FF
        unit = Decimal(1).scaleb(-((scale ^ 0x400) - 0x400))
        # Less than one unit is what rounding and cutting off may do; one whole unit is another number.
        return column.type_name if distance < unit else None
    # A number that went through a float on its way.
    digits = FLOAT_DIGITS["double precision"]
    return "a float" if distance <= _last(max(abs(one), abs(other)), digits) else None


def _last(size: Decimal, digits: int) -> Decimal:
    """One unit of the last of so many digits."""
    return Decimal(1).scaleb(size.adjusted() - digits + 1) if size else Decimal(0)


def _moment_rounding(column: Column, expected: bytes, found: bytes) -> str | None:
    try:
        one, other = load(expected, value_oid(column)), load(found, value_oid(column))
    except UnreadableValueError:
        return None
    if not isinstance(one, datetime) or not isinstance(other, datetime):
        return None
    digits = column.base_typmod if 0 <= column.base_typmod < 6 else 6
    microseconds = abs((one - other).total_seconds()) * 1e6
    if microseconds < 10 ** (6 - digits):
        return column.type_name
    # Seconds and milliseconds are what other programs keep of a moment.
    for unit, word in ((1_000, "milliseconds"), (1_000_000, "whole seconds")):
        if microseconds < unit and other.microsecond % unit == 0:
            return word
    return None
