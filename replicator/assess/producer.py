"""Slot and publication of Debezium, as the source's server shows them: what the log is filled from. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from replicator.assess.feed import AssessedFeed
from replicator.assess.findings import Finding, Level
from replicator.assess.server import SlotWishes, assess_publication, assess_wal


def assess_producer_slot(feed: AssessedFeed, slot: str | None, publication: str | None) -> Iterator[Finding]:
    """Findings about them; both are Debezium's, who makes them.

    Args:
        feed: with the facts of a slot and a publication of these names.
        slot: its name, None where that isn't known.
        publication: likewise.

    """
    yield from assess_wal(feed)
    if slot is not None:
        yield from _slot(feed, slot)
    if publication is not None and feed.source.publication is not None:
        for finding in assess_publication(feed, SlotWishes(slot or "", publication, create=False)):
            if finding.code != "publication_root":  # Debezium's own setting makes it, and is a finding of its own
                yield finding


def _slot(feed: AssessedFeed, name: str) -> Iterator[Finding]:
    found = feed.source.slot
    subject = f"slot {name}"
    if found is None:
        yield feed.finding(
            feed.stop,
            "slot_missing",
            subject,
            "it is not there: nothing holds back what is committed from now on",
            "Start Debezium, which makes it; the feed begins after that",
        )
    elif found.plugin != "pgoutput" or found.database != feed.source.server.database:
        what = "a physical one" if found.plugin is None else f"of {found.plugin} in database {found.database}"
        yield feed.finding(
            feed.stop,
            "slot_foreign",
            subject,
            f"it is {what}",
            "Debezium needs plugin.name pgoutput on old.dsn's database",
        )
    elif found.lost is not None:
        yield feed.finding(
            feed.stop,
            "slot_lost",
            subject,
            f"the server has given it up ({found.lost}): changes since are lost to Debezium",
            f"SELECT pg_drop_replication_slot('{name}'); -- then start Debezium, and the feed with a new copy",
        )
    elif not found.active:
        yield feed.finding(Level.WARN, "slot_idle", subject, "nobody reads it now: is Debezium running?")
