"""Which mapped tables and columns Debezium leaves out, masks, or keys by something else. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from replicator.assess.debezium_rules import LOSS, ORDER, SETTING
from replicator.assess.debezium_settings import Patterns, plain_name
from replicator.assess.debezium_values import carried
from replicator.assess.findings import Finding, Level, column_list, table_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replicator.assess.debezium_settings import Settings
    from replicator.assess.feed import AssessedFeed
    from replicator.tables import Table, TableName

_MASKS: Final = re.compile(r"(column\.(?:mask\.hash|mask\.with|truncate\.to))\..+")
_IN_CONFIG: Final = "In Debezium's configuration: "
_AVRO_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def assess_tables(
    feed: AssessedFeed, settings: Settings, partitions: Mapping[TableName, int], *, avro: bool
) -> Iterator[Finding]:
    """Findings about the mapped tables.

    Args:
        feed: with the mappings.
        settings: the connector's.
        partitions: of each table's topic, where it is there.
        avro: how records are written.

    """
    yield from _left_out(feed, settings)
    yield from _columns(feed, settings)
    yield from _keys(feed, settings, partitions)
    yield from _partitioned(feed, settings)
    yield from _renamed(feed, settings, avro=avro)


def key_columns(settings: Settings, table: Table) -> tuple[str, ...] | None:
    """The columns that `message.key.columns` makes the key of a table's records; None where it doesn't name it.

    Raises:
        re.error: see `Patterns.matches`.

    """
    for entry in settings.text("message.key.columns").split(";"):
        pattern, colon, columns = entry.strip().rpartition(":")
        if colon and Patterns("message.key.columns", (pattern,)).matches(plain_name(table.name)):
            return tuple(column.strip() for column in columns.split(",") if column.strip())
    return None


def _untold(feed: AssessedFeed, setting: str) -> Finding:
    """A regular expression that only Java can read."""
    return feed.finding(
        Level.WARN, SETTING, setting, "one of its regular expressions can't be read here: look at it yourself"
    )


def _left_out(feed: AssessedFeed, settings: Settings) -> Iterator[Finding]:
    tables = list(dict.fromkeys(table.name for _, table, _ in feed.published()))
    for kind in ("schema", "table"):
        for which in ("include", "exclude"):
            listed = settings.patterns(f"{kind}.{which}.list")
            if listed is None:
                continue
            named = {table: table.schema if kind == "schema" else plain_name(table) for table in tables}
            try:
                missing = [table for table in tables if listed.matches(named[table]) is (which == "exclude")]
            except re.error:
                yield _untold(feed, listed.setting)
                continue
            if missing:
                what = "doesn't name" if which == "include" else "leaves out"
                yield feed.finding(
                    feed.stop,
                    LOSS,
                    listed.setting,
                    f"it {what} {table_list(missing)}: no change of them arrives",
                    f"{_IN_CONFIG}{'add them to' if which == 'include' else 'take them out of'} {listed.setting}",
                )


def _columns(feed: AssessedFeed, settings: Settings) -> Iterator[Finding]:
    lists = [
        (listed, which) for which in ("include", "exclude") if (listed := settings.patterns(f"column.{which}.list"))
    ]
    for setting in settings:
        mask = _MASKS.fullmatch(setting)
        listed = settings.patterns(setting) if mask else None
        if mask and listed is not None:  # the setting's own name may hold the salt of a hash
            lists.append((Patterns(f"{mask[1]}.*", listed.expressions), "mask"))
    for listed, which in lists:
        for mapping in feed.mappings.all:
            for side in mapping.sources:
                names = [column.name for column in carried(mapping, side)]
                table = plain_name(side.table.name)
                try:
                    hit = [one for one in names if listed.matches(f"{table}.{one}") is (which != "include")]
                except re.error:
                    yield _untold(feed, listed.setting)
                    continue
                if hit:
                    what = "changed" if which == "mask" else "left out"
                    yield feed.finding(
                        feed.stop,
                        LOSS,
                        listed.setting,
                        f"columns of {side.table.name} are {what} in Debezium's events: {column_list(hit)}",
                        f"{_IN_CONFIG}correct {listed.setting}, or leave these columns out of the mapping",
                        of=mapping,
                    )


def _keys(feed: AssessedFeed, settings: Settings, partitions: Mapping[TableName, int]) -> Iterator[Finding]:
    for mapping, table, _ in feed.published():
        try:
            given = key_columns(settings, table)
        except re.error:
            yield _untold(feed, "message.key.columns")
            return
        if given is None or not table.key or set(given) <= set(table.key):
            continue
        several = partitions.get(table.name, 1) > 1
        yield feed.finding(
            feed.stop if several else Level.WARN,
            ORDER,
            f"message.key.columns of {table.name}",
            f"records are keyed by {column_list(given)}, which is more than the key ({column_list(table.key)}): a row "
            "whose other columns change "
            + (
                "moves to another partition, and its changes come in any order"
                if several
                else "would lose its order in a topic of several partitions, and its history in a compacted one"
            ),
            f"{_IN_CONFIG}take {table.name} out of message.key.columns",
            of=mapping,
        )


def _partitioned(feed: AssessedFeed, settings: Settings) -> Iterator[Finding]:
    publication = feed.source.publication
    via_root = (
        publication.via_root if publication is not None else settings.flag("publish.via.partition.root", default=False)
    )
    parted = list(dict.fromkeys(table.name for _, table, _ in feed.published() if table.kind == "p"))
    if parted and not via_root:
        yield feed.finding(
            feed.stop,
            LOSS,
            "publish.via.partition.root",
            f"changes come under the names of partitions, not of the partitioned tables: {table_list(parted)}",
            f'{_IN_CONFIG}"publish.via.partition.root": "true"; and for the publication that is there: '
            "ALTER PUBLICATION ... SET (publish_via_partition_root = true);",
        )


def _renamed(feed: AssessedFeed, settings: Settings, *, avro: bool) -> Iterator[Finding]:
    """Names that Avro doesn't allow: spelled otherwise, and found again, unless two are spelled alike."""
    mode = settings.mode("field.name.adjustment.mode", "none")
    for mapping, table, _ in feed.published():
        spelled: dict[str, list[str]] = defaultdict(list)
        for name in table.column_names:
            spelled[_avro_name(name)].append(name)
        odd = [name for names in spelled.values() for name in names if not _AVRO_NAME.match(name)]
        alike = [name for names in spelled.values() if len(names) > 1 for name in names]
        if mode == "avro" and alike:
            what, which = "are spelled alike in Debezium's events", alike
        elif mode == "none" and avro and odd:
            what, which = "have names that Avro doesn't allow: its converter ends Debezium's task", odd
        else:
            continue
        yield feed.finding(
            feed.stop,
            SETTING,
            "field.name.adjustment.mode",
            f"columns of {table.name} {what}: {column_list(which)}",
            f'{_IN_CONFIG}"field.name.adjustment.mode": "avro_unicode"',
            of=mapping,
        )


def _avro_name(name: str) -> str:
    """As Debezium spells it in the mode `avro`: by Java's characters, of 16 bits."""
    units = name.encode("utf-16-le", "surrogatepass")
    spelled = "".join(chr(units[at]) if not units[at + 1] else "_" for at in range(0, len(units), 2))
    return re.sub(r"^(?=[0-9])", "_", re.sub(r"[^A-Za-z0-9_]", "_", spelled))
