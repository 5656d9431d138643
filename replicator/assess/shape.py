"""What becomes of every column: carried, translated, left over, generated; and whether its values fit."""

from __future__ import annotations

from collections.abc import Iterator

from replicator.assess.feed import AssessedFeed
from replicator.assess.findings import Finding, Level, column_list
from replicator.assess.fit import misfit
from replicator.mapping import Mapping
from replicator.tables import Column, Table


def assess_columns(feed: AssessedFeed) -> Iterator[Finding]:
    """Findings about the columns of every mapping."""
    for mapping in feed.mappings.all:
        if mapping.function is None:
            yield from _same_shape(feed, mapping)
        else:
            yield from _transformed(feed, mapping)
        for side in mapping.targets:
            yield from _made_by_target(feed, mapping, side.table)


def _same_shape(feed: AssessedFeed, mapping: Mapping) -> Iterator[Finding]:
    source, target = mapping.root.table, mapping.target.table
    translated = _translated(mapping)
    for name, new in mapping.columns.items():
        column, other = source.by_name[name], target.by_name[new]
        if new not in translated:
            yield from _fit(feed, mapping, column, other, feed.stop)
        if column.nullable and not other.nullable:
            yield feed.finding(
                Level.WARN,
                "nullable",
                f"{source.name}.{name}",
                f"it may be NULL, and {target.name} refuses NULL in {new}: such a row stops the feed",
                f"Rule it out on the {feed.source_name} side, or write a transform that gives a value",
                of=mapping,
            )
    left = [
        column.name
        for column in source.columns
        if column.name not in mapping.columns and not (column.generated or _takes(target, column.name))
    ]
    if left:
        yield feed.finding(
            Level.NOTE,
            "left_over",
            source.name,
            f"not carried: {column_list(left)}",
            of=mapping,
        )
    filled = set(mapping.columns.values())
    unfilled = [column.name for column in target.columns if column.name not in filled and not column.generated]
    if unfilled:
        yield feed.finding(
            Level.NOTE,
            "unfilled",
            target.name,
            f"filled by nothing but their default: {column_list(unfilled)}",
            of=mapping,
        )


def _takes(target: Table, name: str) -> bool:
    """Whether the target computes a column of this name itself."""
    return name in target.by_name and bool(target.by_name[name].generated)


def _transformed(feed: AssessedFeed, mapping: Mapping) -> Iterator[Finding]:
    """Columns of one name on both roots may pass untouched; what the function does with them can't be known."""
    translated = _translated(mapping)
    source, target = mapping.root.table, mapping.target.table
    for column in source.columns:
        other = target.by_name.get(column.name)
        if other is None or other.generated or column.generated or column.name in translated:
            continue
        yield from _fit(feed, mapping, column, other, Level.WARN)


def _fit(feed: AssessedFeed, mapping: Mapping, column: Column, other: Column, worst: Level) -> Iterator[Finding]:
    found = misfit(column, other, feed.source.catalog.enums, feed.target.catalog.enums)
    if found is None:
        return
    source, target = mapping.root.table, mapping.target.table
    lossy = bool({column.name, other.name} & mapping.lossy)
    level = Level.NOTE if lossy else worst if found.level is Level.STOP else found.level
    if lossy:
        remedy = ""
    elif mapping.function is None:
        remedy = f"Widen {target.name}.{other.name}, convert it in a transform, or declare lossy: [{column.name}]"
    else:
        remedy = f"If the transform leaves it untouched: widen {target.name}.{other.name}, or convert it there"
    yield feed.finding(
        level,
        "type",
        f"{source.name}.{column.name}",
        f"{found.reason}{' (declared lossy)' if lossy else ''}",
        remedy,
        of=mapping,
    )


def _translated(mapping: Mapping) -> set[str]:
    """Target columns whose value is a translated key: their type is the key map's business."""
    columns = {column for reference in mapping.references for column in reference.columns}
    if mapping.key_map is not None:
        columns.update(mapping.target.key)
    return columns


def _made_by_target(feed: AssessedFeed, mapping: Mapping, table: Table) -> Iterator[Finding]:
    generated = [column.name for column in table.columns if column.generated]
    if generated:
        yield feed.finding(
            Level.NOTE,
            "generated",
            table.name,
            f"computed by the {feed.target_name} side, never written: {column_list(generated)}",
            of=mapping,
        )
    identity = [column.name for column in table.columns if column.identity]
    if identity:
        yield feed.finding(
            Level.NOTE,
            "identity",
            table.name,
            f"identity columns get the values that arrive (OVERRIDING SYSTEM VALUE): {column_list(identity)}; their "
            f"sequences stay where they are until the cutover sets them past those of the {feed.source_name} side",
            of=mapping,
        )
