"""Where a batch is cut for a snapshot of the source."""

from replicator.engine.cuts import SnapshotText
from replicator.engine.standing import cut
from replicator.events import Batch, ChangeEvent, Op, Position, Relation, Transaction
from replicator.runs import Events, Rows, Run, xids_of
from replicator.tables import TableName

RELATION = Relation(TableName("public", "t"), ("id",))


def batch(*xids: int) -> Batch:
    """One transaction each, at 10 times its place; every other one is a run of two rows."""
    parts: list[ChangeEvent | Run] = []
    for at, xid in enumerate(xids, 1):
        transaction = Transaction(xid, 10 * at, float(at))
        if at % 2:
            parts.append(ChangeEvent(Op.INSERT, RELATION, None, (b"1",), transaction, 1))
        else:
            parts.append(Run(Op.INSERT, RELATION, Rows([b"1", b"2"], 1), transaction, first=1, size=2))
    size = len(xids) + len(xids) // 2
    return Batch(Events(parts, size), Position(10 * len(xids) + 5), transactions=len(xids), commit_time=9.0)


def test_a_batch_is_cut_before_what_a_snapshot_does_not_see() -> None:
    """Whole transactions before the first unseen one, up to its place; that one and all behind it are the rest."""
    whole = batch(5, 6, 9, 7)
    head, tail = cut(whole, SnapshotText("9:11:9"))
    assert head is not None
    assert tail is not None
    assert ({5, 6}, 3, Position(30), True, 2, 2.0) == (
        xids_of(head.events),
        len(head.events),
        head.position,
        head.complete,
        head.transactions,
        head.commit_time,
    )
    assert ({9, 7}, 3, whole.position, 2, 3.0) == (
        xids_of(tail.events),
        len(tail.events),
        tail.position,
        tail.transactions,
        tail.first_commit_time,
    )


def test_a_batch_that_is_seen_or_unseen_as_a_whole_stays_whole() -> None:
    """Also one without an event, which only moves the position."""
    sees = SnapshotText("7:11:7")
    seen, unseen, idle = batch(5, 6), batch(7, 6), Batch([], Position(50))
    assert (seen, None) == cut(seen, sees)
    assert (None, unseen) == cut(unseen, sees)
    assert (idle, None) == cut(idle, sees)
