"""The proof that Debezium has put into Kafka what was committed on the source: its committed source offset.

The slot proves nothing here: Debezium may confirm to it while records are still in flight on other partitions.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog

from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from replicator.kafka.connect import ConnectClient
    from replicator.partitions import Marker

_POLL_SECONDS: Final = 0.1
_POLL_SECONDS_MAX: Final = 1.0
_POLL_SHARE: Final = 0.1
"""Of what was waited: where offsets are committed with the records the answer comes within moments; where a worker
flushes them once in a while (`offset.flush.interval.ms`, a minute), nobody needs to know it to a tenth of a second."""
_PATIENCE_SECONDS: Final = 60.0
"""A worker that restarts, or a rolling upgrade of all, is back by then."""
_BEAT_AFTER_SECONDS: Final = 1.0
"""By then a busy source, or the caller's own mark, has been heard of if it is heard of soon."""

_LOOK_SECONDS: Final = 3.0
"""A proof that takes longer than this may have a reason that Connect tells, and is asked for it this often."""


class DebeziumProof:
    """`partitions.ProducerProof` by Kafka Connect's REST API.

    The offset moves only with commits that Debezium is shown, and with records that carry it: an idle source needs a
    beat after the LSN, which is written here where nothing else was heard of, and Debezium's `heartbeat.interval.ms`.

    Args:
        connect: None where the connector names no Connect; then nothing is proven.
        topic_prefix: Debezium's.
        marker: of the source.
        beat_seconds: beats are no closer than this; 0 never beats.
        patience_seconds: how long nobody may answer before that is an error.

    """

    def __init__(
        self,
        connect: ConnectClient | None,
        topic_prefix: str,
        marker: Marker,
        *,
        beat_seconds: float,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._connect = connect
        self._topic_prefix = topic_prefix
        self._marker = marker
        self._beat_seconds = beat_seconds
        self._beat_next = 0.0
        self._upto = -1  # what was committed once stays in the log
        self._asked = 0.0
        self._asking = asyncio.Lock()
        self._patience = patience_seconds
        self._trouble: str | None = None
        self._log = structlog.get_logger("replicator.kafka").bind(topic_prefix=topic_prefix)

    async def produced(self, lsn: int) -> None:
        """See `partitions.ProducerProof`."""
        connect = self._connect
        if connect is None:
            raise ReplicatorError(
                "nothing can prove that Debezium has put everything into Kafka",
                kind=ErrorKind.CONFIG,
                hint="Name Kafka Connect's REST API in stream.connect_url, and Debezium's connector there in "
                "stream.connect_name",
            )
        began = answered = looked = time.monotonic()
        # Not at the LSN itself: the record that tells a transaction's end (in the transaction topic) follows the
        # first one that carries its LSN, and whatever is past it follows both.
        while self._upto <= lsn:
            pause = min(max(_POLL_SECONDS, (time.monotonic() - began) * _POLL_SHARE), _POLL_SECONDS_MAX)
            try:
                await self._ask(connect, pause)
                answered = time.monotonic()
            except ReplicatorError as error:
                if error.kind is not ErrorKind.CONNECTION or time.monotonic() - answered > self._patience:
                    raise
            if self._upto > lsn:
                break
            if time.monotonic() - looked >= _LOOK_SECONDS:
                looked = time.monotonic()
                await self._look(connect)
            if time.monotonic() - began >= _BEAT_AFTER_SECONDS:
                await self._beat()
            await asyncio.sleep(pause)
        if self._trouble is not None:
            await self._look(connect)

    async def _ask(self, connect: ConnectClient, pause: float) -> None:
        """Ask how far it is, unless somebody who waits as well has asked a moment ago."""
        async with self._asking:
            if time.monotonic() - self._asked < pause / 2:
                return
            committed = await self._committed(connect)
            self._asked = time.monotonic()
            if committed is not None:
                self._upto = max(self._upto, committed)

    async def _look(self, connect: ConnectClient) -> None:
        """Say it when Debezium doesn't run (a task that has failed stays so), and when it does again: it may be that
        nothing comes, and all else looks well.
        """
        try:
            trouble = (await connect.status()).trouble
        except ReplicatorError as error:
            if error.kind is not ErrorKind.CONNECTION:
                raise
            trouble = error.message
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble is None:
            self._log.info("Debezium runs again", debezium=connect.name)
        else:
            self._log.warning(
                "Debezium fills no topics",
                debezium=connect.name,
                error=trouble,
                hint=f"Its trace is at {connect.url}/connectors/{connect.name}/status. Nothing is lost meanwhile: its "
                "slot holds back what it hasn't read",
            )

    async def _beat(self) -> None:
        """Have something committed on the source, so that an idle one is heard of."""
        now = time.monotonic()
        if not self._beat_seconds or now < self._beat_next:
            return
        self._beat_next = now + self._beat_seconds
        try:
            await self._marker.beat()
        except ReplicatorError as error:
            if error.kind is not ErrorKind.PERMISSION:
                raise
            # Then only the application's own commits move the offset.

    async def _committed(self, connect: ConnectClient) -> int | None:
        """End of the newest transaction that is wholly in the log; None for none yet.

        Raises:
            ReplicatorError: CONFIG when it works for another `topic.prefix`; else as `ConnectClient`.

        """
        offsets = await connect.offsets()
        ours = next((one for one in offsets if one.server == self._topic_prefix), None)
        if ours is None and offsets:
            raise ReplicatorError(
                f"Debezium's connector {connect.name} has never filled topics of {self._topic_prefix}, but of "
                f"{', '.join(sorted(one.server for one in offsets))}",
                kind=ErrorKind.CONFIG,
                hint="stream.topic_prefix and Debezium's topic.prefix must be the same",
            )
        return None if ours is None else ours.lsn_commit
