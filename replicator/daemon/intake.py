"""Intake: how a feed gets its changes. The source itself, and what must be there before it can begin.

slot     one process; publication and slot on the old database
kafka    a group of processes, one of which leads; topics that somebody else fills
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from replicator.codecs.pgoutput import PgoutputDecoder
from replicator.daemon.databases import FORWARD, REVERSE, old_dsn
from replicator.daemon.slot_setup import SlotSetup
from replicator.postgres.sessions import origin_prefix
from replicator.postgres.slot import SlotSource, parse_position

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from replicator.config import Connector, SlotStream
    from replicator.mapping import Mapping, Mappings
    from replicator.ports import Checkpoint, Source, TargetTransaction


class Intake(Protocol):
    """One connector's way to its changes."""

    @property
    def group(self) -> bool:
        """Whether several processes may share the stream; jobs are then the leader's alone."""

    @property
    def lanes(self) -> int:
        """Lanes of one process."""

    @property
    def heartbeat_seconds(self) -> float:
        """How often an idle source gets a heartbeat; 0 is never."""

    @property
    def proves(self) -> bool:
        """Whether `Source.passed` is a proof; else what is applied can't be known, only what has arrived."""

    @property
    def publication(self) -> str | None:
        """The publication that changes come by, known once `source` was called; None where nobody says which."""

    async def source(self, mappings: Mappings) -> Source:
        """The old database's changes, those of the reverse feed left out; not started.

        Raises:
            ReplicatorError: CONFIG, CONNECTION, PERMISSION of what has to be asked for it.

        """

    async def ready(
        self, mappings: Mappings, checkpoints: Sequence[Checkpoint], *, copied: Collection[str], copies: bool
    ) -> bool:
        """See that from now on no change is missed.

        Args:
            mappings: of the feed.
            checkpoints: as the target had them.
            copied: names of the mappings whose copy has begun.
            copies: whether one is to be made.

        Returns:
            Whether a table was added to the stream now: then a copy of it waits for the writers of this moment.

        Raises:
            ReplicatorError: SLOT_LOST, LOG_LOST, when what was there is gone; CONFIG, PERMISSION, CONNECTION.

        """

    async def may_copy_again(self, mapping: Mapping) -> None:
        """Whether this process can resync the mapping beside whoever else applies it.

        Raises:
            ReplicatorError: CONFIG.

        """

    async def hold(self, transaction: TargetTransaction, mapping: Mapping) -> None:
        """See that this process alone applies the mapping's changes, and have it stay so until the transaction ends.

        Raises:
            ReplicatorError: as `may_copy_again`.

        """

    async def close(self) -> None:
        """End what the source leaves open. Idempotent."""


class SlotIntake:
    """See `Intake`."""

    group = False
    proves = True

    def __init__(self, connector: Connector, stream: SlotStream) -> None:
        self._connector = connector
        self._stream = stream

    @property
    def lanes(self) -> int:
        """See `Intake`."""
        return self._connector.apply.lanes

    @property
    def heartbeat_seconds(self) -> float:
        """See `Intake`."""
        return self._stream.heartbeat_interval.total_seconds()

    @property
    def publication(self) -> str:
        """See `Intake`."""
        return self._connector.publication_name

    async def source(self, mappings: Mappings) -> SlotSource:
        """See `Intake`."""
        connector = self._connector
        return SlotSource(
            old_dsn(connector),
            connector=connector.name,
            feed=FORWARD,
            slot=connector.slot_name,
            publication=connector.publication_name,
            decoder=PgoutputDecoder(),
            tables=[table.name for table in mappings.source_tables],
            buffer_bytes_max=self._stream.buffer_bytes_max,
            drop_origins=origin_prefix(connector.name, REVERSE),
        )

    async def ready(
        self, mappings: Mappings, checkpoints: Sequence[Checkpoint], *, copied: Collection[str], copies: bool
    ) -> bool:
        """See `Intake`. Makes publication and slot, where the connector says so."""
        del copies
        connector = self._connector
        setup = SlotSetup(
            old_dsn(connector),
            connector.name,
            FORWARD,
            connector.slot_name,
            connector.publication_name,
            create=self._stream.create,
            heartbeat=self.heartbeat_seconds > 0,
        )
        extended = await setup.publish(mappings.source_tables)
        since = [one.position for one in checkpoints if one.position is not None]
        begun = "since the copy began" if copied else None
        await setup.hold_back(f"after {min(since, key=parse_position)}" if since else begun)
        return extended

    async def may_copy_again(self, mapping: Mapping) -> None:
        """See `Intake`: nobody else does."""

    async def hold(self, transaction: TargetTransaction, mapping: Mapping) -> None:
        """See `Intake`: nobody else does."""

    async def close(self) -> None:
        """See `Intake`."""
