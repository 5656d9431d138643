"""What a transaction of the feed compares, so that only its holder writes, and what it moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres import state_sql
from replicator.postgres.partition_ledger import reassigned
from replicator.postgres.takeover import superseded
from replicator.postgres.wire import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from replicator.postgres.partition_ledger import Move, PartitionLedger
    from replicator.postgres.takeover import Holder


class JobProgress:
    """Of a job's transaction, which moves nothing; and what the others have in common.

    Args:
        holder: under whose epoch it writes.
        lost: makes the error of one that holds it no longer.

    Attributes:
        job: whether it belongs to a job.
        moves: whether there is something to commit although nothing was written.
        epoch: compared when it begins, under a row lock; None where that is done at its end.
        note: keeps the transaction's id, by which its rows are known as ours: a job carries no origin.

    """

    job = True
    moves = False

    def __init__(self, holder: Holder, lost: Callable[[], ReplicatorError]) -> None:
        self.epoch: Command | None = _feed_epoch(holder)
        self.note: Command | None = None
        if self.job:
            self.note = Command(state_sql.JOB, holder.parameters[:2], doing="noting a job's transaction")
        self._lost = lost

    def checkpoint(self, position: str, commit_time: float | None) -> None:
        """What `TargetTransaction.checkpoint` was called with."""
        raise ReplicatorError(f"a job has no checkpoint ({position}, {commit_time})", kind=ErrorKind.INTERNAL)

    def moving(self) -> Command | None:
        """What goes before COMMIT."""
        return None

    def superseded(self) -> ReplicatorError:
        """The error when `epoch` or `moving` divided by zero."""
        return self._lost()

    def committed(self) -> None:
        """The COMMIT was acknowledged."""


class LaneProgress(JobProgress):
    """A lane's checkpoint, compared and set.

    Args:
        holder: under whose epoch.
        lane: its number.
        position: its committed one.

    """

    job = False

    def __init__(self, holder: Holder, lane: int, position: str | None) -> None:
        super().__init__(holder, lambda: superseded(holder))
        doing = f"comparing the epoch of lane {lane} of {holder.connector}/{holder.feed}"
        self.epoch = Command(state_sql.EPOCH_OF_LANE, [*holder.parameters, b"%d" % lane], doing=doing)
        self.position = position
        self._keys = [*holder.parameters[:2], b"%d" % lane]
        self._next: tuple[str, float | None] | None = None

    def checkpoint(self, position: str, commit_time: float | None) -> None:
        """Where the lane stands then."""
        self._next = (position, commit_time)
        self.moves = True

    def moving(self) -> Command | None:
        """By compare-and-set from the position that this lane wrote last."""
        if self._next is None:
            return None
        position, commit_time = self._next
        before = None if self.position is None else self.position.encode()
        moment = None if commit_time is None else repr(commit_time).encode()
        parameters = [*self._keys, before, position.encode(), moment]
        return Command(state_sql.CHECKPOINT, parameters, doing="moving the checkpoint")

    def committed(self) -> None:
        """Then the lane stands there."""
        if self._next is not None:
            self.position = self._next[0]


class PartitionProgress(JobProgress):
    """The offsets of the partitions that this process holds, compared and set.

    A transaction that moves none (an operator's dead letters) is the leader's, and compares the feed's epoch.

    Args:
        ledger: what is held.
        leader: under which epoch this process leads; None: it doesn't.
        lost: makes the error of one that leads no longer.

    """

    job = False

    def __init__(self, ledger: PartitionLedger, leader: Holder | None, lost: Callable[[], ReplicatorError]) -> None:
        super().__init__(ledger.feed, lost)
        self.epoch = None
        self._ledger = ledger
        self._leader = leader
        self._next: tuple[Move, float | None] | None = None

    def checkpoint(self, position: str, commit_time: float | None) -> None:
        """The next offsets, as `Source.progress` says them."""
        move = self._ledger.parse(position)
        self._next = (move, commit_time) if move.partitions else None
        self.moves = self._next is not None

    def moving(self) -> Command | None:
        """By compare-and-set from the epochs and offsets that this process holds."""
        if self._next is not None:
            return self._ledger.moving(*self._next)
        if self._leader is None:
            message = "a transaction that moves no offset is for the leader of the group"
            raise ReplicatorError(message, kind=ErrorKind.INTERNAL)
        return _feed_epoch(self._leader)

    def superseded(self) -> ReplicatorError:
        """A partition, or the leadership, belongs to another process."""
        return reassigned(self._ledger.feed) if self.moves else self._lost()

    def committed(self) -> None:
        """Then this process holds them at their next offsets."""
        if self._next is not None:
            self._ledger.moved(self._next[0])


def _feed_epoch(holder: Holder) -> Command:
    doing = f"comparing the epoch of {holder.connector}/{holder.feed}"
    return Command(state_sql.EPOCH_OF_FEED, holder.parameters, doing=doing)
