"""What a connector would do, and what stands in its way: `replicator plan`, decided from facts, without I/O.

connector, mappings, facts of both databases ──assess──▶ Assessment: plans, findings with remedies, promises
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from replicator.assess.facts import Facts
from replicator.assess.feed import AssessedFeed
from replicator.assess.findings import Assessment, Finding, Level, MappingPlan, sort_findings, table_list
from replicator.assess.identity import assess_identities, identity_in_words
from replicator.assess.log import assess_log, promised
from replicator.assess.log_facts import StreamFacts
from replicator.assess.producer import assess_producer_slot
from replicator.assess.server import (
    SlotWishes,
    assess_grants,
    assess_marking,
    assess_origins,
    assess_servers,
    assess_slot,
    assess_slot_server,
)
from replicator.assess.shape import assess_columns
from replicator.assess.writing import assess_reading, assess_writing, write_order
from replicator.config import KafkaStream, SlotStream
from replicator.mapping import Mapping, Mappings

if TYPE_CHECKING:
    from replicator.compile import Problem
    from replicator.config import Connector
    from replicator.tables import TableName

__all__ = ["Assessment", "Facts", "Finding", "Level", "MappingPlan", "assess"]


def assess(
    connector: Connector,
    mappings: Mappings,
    old: Facts,
    upgraded: Facts,
    *,
    reverse: Mappings | None = None,
    stream: StreamFacts | None = None,
    problems: Iterable[Problem] = (),
    started: bool = False,
) -> Assessment:
    """Everything that a person should know before this connector runs.

    Args:
        connector: the file.
        mappings: of the forward feed; those that could be compiled.
        old: facts of the old database, with rights on the source tables; slot and publication are those that the
            changes come from, whoever reads them.
        upgraded: likewise, with rights on the target tables.
        reverse: mappings of the reverse feed, where one is wanted and could be compiled.
        stream: of a stream that is Kafka; None for a slot.
        problems: what could not be compiled.
        started: it has run before, so the upgraded tables are filled by it.

    """
    feed = AssessedFeed(old, upgraded, mappings)
    lanes = connector.apply.lanes if isinstance(connector.stream, SlotStream) else 1
    findings = [*_problems(problems), *assess_servers(feed), *assess_grants(feed), *assess_origins(feed, lanes)]
    findings += _stream(feed, connector, stream)
    findings += _directions(feed, lanes, log=isinstance(connector.stream, KafkaStream))
    findings += _filled(feed, started=started or not connector.backfill.enabled)
    if reverse is not None:
        back = AssessedFeed(upgraded, old, reverse, forward=False)
        findings += _way_back(back)
    if isinstance(connector.stream, KafkaStream):
        whole, reason = promised(feed, connector.stream, stream)
    else:
        whole, reason = _whole_transactions(mappings, lanes)
    unmapped = _unmapped(feed)
    findings += _closing(unmapped)
    return Assessment(
        connector=connector.name,
        mappings=tuple(_plan(mapping, stream) for mapping in sorted(mappings.all, key=lambda mapping: mapping.name)),
        findings=sort_findings(findings),
        whole_transactions=whole,
        transactions_reason=reason,
        write_order=write_order(feed),
        unmapped=unmapped,
    )


def _stream(feed: AssessedFeed, connector: Connector, facts: StreamFacts | None) -> Iterator[Finding]:
    """Slot and publication, by whomever they are read; and the log, where there is one."""
    stream = connector.stream
    ours = stream if isinstance(stream, SlotStream) else stream.capture
    wishes = SlotWishes(
        slot=connector.slot_name,
        publication=connector.publication_name,
        create=ours is not None and ours.create,
        reverse=connector.cutover.reverse,
    )
    if ours is not None:
        yield from assess_slot(feed, wishes)
    elif facts is not None:
        yield from assess_producer_slot(feed, facts.slot, facts.publication)
    yield from assess_marking(feed, wishes)
    if isinstance(stream, KafkaStream) and facts is not None:
        yield from assess_log(feed, connector, stream, facts)


def _problems(problems: Iterable[Problem]) -> Iterator[Finding]:
    for problem in problems:
        yield Finding(Level.STOP, "mapping", problem.table, problem.message, problem.remedy, problem.mapping)


def _directions(feed: AssessedFeed, lanes: int, *, log: bool) -> list[Finding]:
    return [
        *assess_identities(feed),
        *assess_reading(feed),
        *assess_columns(feed),
        *assess_writing(feed, lanes, log=log),
    ]


def _way_back(feed: AssessedFeed) -> list[Finding]:
    """What the reverse feed lacks; notes about it would only repeat those of the forward feed, and so would schemas."""
    found = [
        *assess_slot_server(feed),
        *assess_grants(feed),
        *assess_identities(feed),
        *assess_reading(feed),
        *assess_columns(feed),
    ]
    return [finding for finding in found if finding.level is not Level.NOTE and finding.code != "right_schema"]


def _filled(feed: AssessedFeed, *, started: bool) -> Iterator[Finding]:
    """Rows on the upgraded side that nobody has replicated yet."""
    for mapping in feed.mappings.all:
        for side in mapping.targets:
            # Unknown is what we have no right to look at, and that is a finding of its own.
            if started or not feed.target.filled.get(side.table.name) or mapping.owns is not None:
                continue
            yield feed.finding(
                Level.WARN,
                "not_empty",
                side.table.name,
                "it holds rows already: those under keys that the copy brings are overwritten, the others stay, and "
                "verification will call them extra",
                f"TRUNCATE {side.table.name}; -- if they are of no use",
                of=mapping,
            )


def _whole_transactions(mappings: Mappings, lanes: int) -> tuple[bool, str]:
    """Promise P3's second half, of a slot: whether a reader of the target never sees half a source transaction."""
    if lanes > 1:
        return False, f"apply.lanes is {lanes}: each lane commits its part of a transaction by itself"
    back = [mapping.name for mapping in mappings.all if mapping.reads_back]
    if back:
        return False, f"aggregates that are read back are read as they are now, not as they were: {', '.join(back)}"
    return True, "one lane from a slot, and no aggregate that is read back"


def _unmapped(feed: AssessedFeed) -> tuple[TableName, ...]:
    """Old tables that no mapping names; a partition belongs to its partitioned table."""
    mapped = {table.name for _, table, _ in feed.published()}
    return tuple(
        table.name for table in feed.source.catalog.tables.values() if table.name not in mapped and table.parent is None
    )


def _closing(unmapped: tuple[TableName, ...]) -> Iterator[Finding]:
    if unmapped:
        yield Finding(
            Level.NOTE,
            "unmapped",
            "old database",
            f"{len(unmapped)} table(s) are not replicated: {table_list(unmapped)}",
            "Name them in tables or in a transform, if they belong to the migration",
        )
    yield Finding(
        Level.NOTE,
        "sequences",
        "upgraded database",
        "sequences are not replicated: the cutover sets those of the upgraded side past those of the old one",
    )


def _plan(mapping: Mapping, stream: StreamFacts | None) -> MappingPlan:
    how = [mapping.label]
    if mapping.reads_back:
        how.append("read back")
    if mapping.key_map is not None:
        how.append("keys translated")
    if mapping.references:
        how.append("references translated")
    if mapping.multiset:
        how.append("no key: a multiset of rows")
    if mapping.owns is not None or mapping.owns_source is not None:
        how.append("part of a table")
    root = mapping.root.table
    return MappingPlan(
        name=mapping.name,
        old=tuple(side.table.name for side in mapping.sources),
        upgraded=tuple(side.table.name for side in mapping.targets),
        how=tuple(how),
        key=mapping.root.key,
        upgraded_key=mapping.target.key,
        replica_identity=identity_in_words(root),
        rows_estimate=root.rows_estimate if root.rows_estimate >= 0 else None,
        bytes=sum(side.table.bytes for side in mapping.sources),
        topics=() if stream is None else stream.described(side.table.name for side in mapping.sources),
    )
