"""What `plan` and `test` need of the databases: read, judged, nothing changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from replicator.assess import Finding, Level, assess
from replicator.assess.findings import sort_findings
from replicator.compile import Problem, compile_partly
from replicator.config import KafkaStream
from replicator.daemon.checking import broken_checks
from replicator.daemon.databases import FORWARD, old_dsn, upgraded_dsn
from replicator.engine.derive import AggregateReader
from replicator.errors import ErrorKind, ReplicatorError
from replicator.lawcheck import LawCheck
from replicator.postgres.catalog import read_catalog
from replicator.postgres.digest_state import PostgresDigestStore
from replicator.postgres.facts import read_facts, read_money_digits
from replicator.postgres.reader import PostgresReader
from replicator.postgres.session import connect
from replicator.postgres.state import State
from replicator.transforms import load_transforms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from collections.abc import Mapping as MappingOf
    from typing import Any

    from replicator.assess import Assessment
    from replicator.assess.log_facts import StreamFacts
    from replicator.config import Connector
    from replicator.copies import MappingDigest
    from replicator.lawcheck import LawReport
    from replicator.mapping import Mapping, Mappings, SourceAggregate
    from replicator.postgres.state import FeedState
    from replicator.transforms import Transform


def transforms_of(connector: Connector) -> tuple[Transform[Any, Any], ...]:
    """Those of the connector's file.

    Raises:
        ReplicatorError: CONFIG, with file and line.

    """
    return () if connector.transforms is None else load_transforms(connector.transforms)


async def assess_connector(connector: Connector) -> Assessment:
    """What would happen, and what stands in the way.

    Raises:
        ReplicatorError: CONNECTION or PERMISSION, where a database can't be read; CONFIG of the transforms.

    """
    transforms = transforms_of(connector)
    async with (
        await connect(old_dsn(connector), f"{connector.name}/plan") as old,
        await connect(upgraded_dsn(connector), f"{connector.name}/plan") as upgraded,
    ):
        catalogs = await read_catalog(old), await read_catalog(upgraded)
        forward, problems = compile_partly(connector.tables, transforms, *catalogs, forward=True)
        reverse, no_way_back = None, tuple[Finding, ...]()
        if connector.cutover.reverse:
            reverse, lacking = compile_partly(connector.tables, transforms, *catalogs, forward=False)
            no_way_back = tuple(_no_way_back(lacking.found, problems.found))
        feeds = await State(upgraded, connector.name).feeds()
        stream = await _stream_facts(connector, forward, feeds, await read_money_digits(old))
        assessment = assess(
            connector,
            forward,
            await read_facts(
                old,
                [table.name for table in forward.source_tables],
                publication=connector.publication_name if stream is None else stream.publication,
                slot=connector.slot_name if stream is None else stream.slot,
                catalog=catalogs[0],
            ),
            await read_facts(upgraded, [table.name for table in forward.target_tables], catalog=catalogs[1]),
            reverse=reverse,
            stream=stream,
            problems=problems.found,
            started=bool(feeds),
        )
    store = PostgresDigestStore(upgraded_dsn(connector), connector.name, FORWARD)
    changed = tuple(_transforms_changed(forward, await store.mapping_digests()))
    checks = await broken_checks(connector)
    return replace(assessment, findings=sort_findings((*assessment.findings, *no_way_back, *changed, *checks)))


def _transforms_changed(mappings: Mappings, known: MappingOf[str, MappingDigest]) -> Iterator[Finding]:
    """Mappings whose rows are not all by the transform that the files have now."""
    for mapping in mappings.all:
        digest = known.get(mapping.name)
        if digest is None or (not digest.mixed and digest.digest == mapping.digest):
            continue
        runs = "rows from before are by the former one"
        if digest.now != mapping.digest:
            runs = "the daemon that ran last wrote by the former one"
        yield Finding(
            Level.WARN,
            "transform_changed",
            str(mapping.root.table.name),
            f"its transform, or one of its tables, has changed, and {runs}",
            f"Once the daemon runs it: replicator rederive FILE --table {mapping.name} "
            "(--dry-run counts what would be written)",
            mapping.name,
        )


async def _stream_facts(
    connector: Connector, mappings: Mappings, feeds: Iterable[FeedState], money_digits: int
) -> StreamFacts | None:
    """What is around a log; None for a slot."""
    if not isinstance(connector.stream, KafkaStream):
        return None
    # What only Kafka needs isn't loaded where there is none.
    from replicator.daemon.log_checks import read_stream  # noqa: PLC0415 - see above

    applied = {
        (one.topic, one.partition): one.next_offset
        for feed in feeds
        if feed.feed == FORWARD
        for one in feed.partitions
        if one.next_offset is not None
    }
    return await read_stream(connector, connector.stream, mappings, applied=applied, money_digits=money_digits)


async def refuse_losses(connector: Connector) -> None:
    """End a start that would lose something without an error: what `plan` would have said.

    Raises:
        ReplicatorError: CONFIG with all of it; else as `assess_connector`.

    """
    losses = (await assess_connector(connector)).losses
    if losses:
        lines = "".join(f"\n  - {one.subject}: {one.message}. {one.remedy}" for one in losses)
        raise ReplicatorError(
            f"something would be lost without an error, so nothing is started:{lines}",
            kind=ErrorKind.CONFIG,
            hint="`replicator plan` says more",
        )


def _no_way_back(reverse: Iterable[Problem], forward: Iterable[Problem]) -> Iterator[Finding]:
    """What keeps the reverse feed from being compiled: it is not needed before the cutover, and known now."""
    known = set(forward)
    for problem in reverse:
        if problem not in known:
            yield Finding(
                Level.WARN,
                "no_way_back",
                problem.table,
                f"after a cutover there would be no way back: {problem.message}",
                problem.remedy or "Mend it before the cutover, or set cutover.reverse: off",
                problem.mapping,
            )


async def check_laws(
    connector: Connector, *, rows: int, generated: int, seed: int, show_values: bool
) -> AsyncIterator[LawReport]:
    """Check the connector's transforms one after the other.

    Args:
        connector: its file.
        rows: aggregates of each transform to sample from the old database.
        generated: aggregates of each to generate.
        seed: of both.
        show_values: put row values into the failures.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION; CONFIG when what is declared doesn't compile.

    """
    transforms = transforms_of(connector)
    reader = PostgresReader(old_dsn(connector), f"{connector.name}/{FORWARD}")
    try:
        async with await connect(upgraded_dsn(connector), f"{connector.name}/test") as session:
            upgraded = await read_catalog(session)
        old = await reader.catalog()
        laws = LawCheck(connector.tables, transforms, old, upgraded, seed=seed, show_values=show_values)
        for mapping in laws.mappings:
            yield laws.check(mapping, await _sample(reader, mapping, rows, seed), generated)
    finally:
        await reader.close()


async def _sample(reader: PostgresReader, mapping: Mapping, rows: int, seed: int) -> list[SourceAggregate]:
    """Aggregates of the old database, the children of one snapshot with their roots."""
    root = mapping.root.table
    async with reader.snapshot() as snapshot:
        found = await snapshot.sample(root, rows, seed, where=mapping.owns_source)
        return await AggregateReader(reader).of_roots(snapshot, mapping, found)
