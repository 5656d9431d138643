"""Whole source transactions out of several topics, whatever the interleaving in which they are read."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Batch, Op, Position, Relation
from replicator.kafka.atomic import Merge
from replicator.kafka.backlog import Backlog, Reading
from replicator.kafka.offsets import Yielded, progress_text
from replicator.records import Record, RowChange, TransactionMark
from replicator.tables import TableName

A, B, UNMAPPED = (TableName("public", name) for name in "abc")
RELATIONS = {table: Relation(table, ("id",)) for table in (A, B)}
TRANSACTIONS = "old.transaction"
TOPICS = {A: "old.public.a", B: "old.public.b"}


class Merging:
    """A merge and what it gives out. A change is (topic letter, transaction, order)."""

    def __init__(self) -> None:
        self.yielded = Yielded()
        self.backlog = Backlog(self.yielded)
        self.readings = {(topic, 0): Reading((topic, 0), 0, 0) for topic in (*TOPICS.values(), TRANSACTIONS)}
        self.merge = Merge(TOPICS, TRANSACTIONS, self.backlog)
        self.positions = [Position(0)]

    def change(self, table: TableName, transaction: str | None, order: int, *, op: Op = Op.INSERT) -> None:
        reading = self.readings[TOPICS[table], 0]
        key = f"{transaction} {order}".encode()
        change = RowChange(op, RELATIONS[table], None, (key,), 7, 70, 1.0, transaction, order)
        self.merge.add(reading, self.record(reading), change, 10)
        reading.seen += 1

    def end(self, transaction: str, **counts: int) -> None:
        reading = self.readings[TRANSACTIONS, 0]
        tables = tuple((TableName("public", name), count) for name, count in counts.items())
        self.merge.end(reading, self.record(reading), TransactionMark(transaction, sum(counts.values()), tables, 1.0))
        reading.seen += 1

    @staticmethod
    def record(reading: Reading) -> Record:
        return Record(*reading.partition, reading.seen, None, None, b"")

    def taken(self, rows: int = 1000, *, full: bool = False, settled: bool = False) -> Batch | None:
        self.merge.work(full=full, settled=settled)
        for reading in self.readings.values():
            held = self.merge.first_held(reading.partition)
            reading.read = reading.seen if held is None else held
        batch = self.backlog.cut(rows, 1 << 20, self.readings.values(), forced=full)
        if batch is not None:
            assert batch.position > self.positions[-1]
            self.positions.append(batch.position)
        return batch

    def progress(self) -> str:
        text = progress_text(self.yielded.progress(self.positions[-1]), {})
        return text.replace("old.public.", "").replace("old.transaction", "t").replace("/0:", "")


def said(batch: Batch | None) -> list[str]:
    assert batch is not None
    return [event.after[0].decode() for event in batch.events if event.after and isinstance(event.after[0], bytes)]


def test_events_of_several_topics_come_in_the_order_of_their_transaction() -> None:
    """Held until the end and all events that it counts are there; unmapped tables don't count."""
    merging = Merging()
    merging.change(A, "x", 1)
    merging.change(A, "x", 4)
    merging.change(B, "x", 3)
    assert merging.taken() is None
    merging.end("x", a=2, b=2, c=1)
    assert merging.taken() is None
    merging.change(B, "x", 5)

    batch = merging.taken()

    assert ["x 1", "x 3", "x 4", "x 5"] == said(batch)
    assert batch is not None
    assert (True, 1) == (batch.complete, batch.transactions)
    assert [1, 2, 3, 4] == [event.ordinal for event in batch.events]
    assert "a2,b2,t1" == merging.progress()


def test_offsets_never_run_ahead_of_what_is_whole() -> None:
    """What is read of a later transaction isn't stored, nor is its end, until it is given out."""
    merging = Merging()
    merging.change(A, "x", 1)
    merging.end("x", a=1)
    merging.change(A, "y", 1)
    merging.end("y", a=1, b=1)

    assert ["x 1"] == said(merging.taken())
    assert "a1,t1" == merging.progress()
    merging.change(B, "y", 2)
    assert ["y 1", "y 2"] == said(merging.taken())
    assert "a2,b1,t2" == merging.progress()


def test_transactions_of_unmapped_tables_only_move_the_offset() -> None:
    """Their ends say nothing to this feed."""
    merging = Merging()
    merging.end("x", c=3)
    assert merging.taken() is None

    idle = merging.backlog.idle(merging.readings.values())

    assert idle is not None
    merging.positions.append(idle.position)
    assert "t1" == merging.progress()


def test_rows_of_a_snapshot_belong_to_no_transaction() -> None:
    """They come alone, before what follows them in their topic."""
    merging = Merging()
    merging.change(A, None, 1, op=Op.READ)
    merging.change(A, "x", 1)
    merging.end("x", a=1)

    batch = merging.taken()

    assert ["None 1", "x 1"] == said(batch)
    assert batch is not None
    assert 1 == batch.transactions


def test_changes_without_metadata_are_refused() -> None:
    """The setting is named."""
    with pytest.raises(ReplicatorError) as caught:
        Merging().change(A, None, 1)

    assert ErrorKind.CONFIG is caught.value.kind
    assert "provide.transaction.metadata" in str(caught.value)


def test_a_large_transaction_comes_in_parts() -> None:
    """Within the limit of rows; the parts aren't complete, the last one is, and only then offsets are told."""
    merging = Merging()
    merging.change(A, "v", 1)
    merging.end("v", a=1)
    merging.taken()
    merging.yielded.confirm(merging.positions[-1])
    for order in range(1, 8):
        merging.change(A, "x", order)
    merging.end("x", a=9)

    parts = [merging.taken(rows=3), merging.taken(rows=3)]
    assert merging.taken(rows=3) is None
    assert merging.backlog.idle(merging.readings.values()) is None
    merging.change(A, "x", 8)
    merging.change(A, "x", 9)
    parts.append(merging.taken(rows=3))

    assert [(3, False), (3, False), (3, True)] == [(len(one.events), one.complete) for one in parts if one]
    assert "a10,t2" == merging.progress()


def test_without_room_a_transaction_is_begun_before_it_is_there() -> None:
    """Else what is held would wait for what can't be read; and it tells what must be read."""
    merging = Merging()
    merging.change(A, "x", 1)
    assert merging.taken(full=True) is None
    assert {(TRANSACTIONS, 0)} == merging.merge.wanted()
    merging.end("x", a=3)

    assert ["x 1"] == said(merging.taken(full=True))
    assert {(TOPICS[A], 0)} == merging.merge.wanted()


def test_a_transaction_that_the_beginning_has_cut() -> None:
    """What lies before the beginning of a topic is in the copy: the rest is given out, once it is known to be all."""
    merging = Merging()
    merging.change(A, "x", 2)
    merging.end("x", a=2, b=1)
    merging.change(A, "y", 1)
    assert merging.taken() is None
    merging.end("y", a=1, b=1)
    merging.change(B, "y", 2)

    assert ["x 2", "y 1", "y 2"] == said(merging.taken())


def test_a_cut_transaction_whose_end_lies_before_the_beginning() -> None:
    """Its events are given out alone."""
    merging = Merging()
    merging.change(A, "w", 7)
    merging.change(A, "x", 1)
    merging.end("x", a=1)

    assert ["w 7", "x 1"] == said(merging.taken())


def test_what_waits_in_vain_at_the_beginning_is_given_out() -> None:
    """When nothing has come for a while: a cut transaction with nothing behind it."""
    merging = Merging()
    merging.change(A, "w", 7)
    assert merging.taken() is None
    assert ["w 7"] == said(merging.taken(settled=True))
    merging.end("x", a=2)
    merging.change(A, "x", 2)
    assert merging.taken() is None
    assert ["x 2"] == said(merging.taken(settled=True))


def test_a_transaction_that_lacks_events_later_on_is_an_error() -> None:
    """Once a topic is known to be whole, a transaction that isn't is not given out."""
    merging = Merging()
    merging.change(A, "x", 1)
    merging.end("x", a=1)
    merging.taken()
    merging.end("y", a=2)
    merging.change(A, "z", 1)

    with pytest.raises(ReplicatorError) as caught:
        merging.taken()

    assert ErrorKind.LOG_LOST is caught.value.kind
    assert "transaction y" in caught.value.message


@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
    st.integers(1, 8),
)
def test_any_interleaving_gives_whole_transactions_in_order(
    transactions: Sequence[Sequence[str]], random: "object", rows: int
) -> None:
    """However the topics are read beside each other: every mapped event once, in commit order, and batches whose
    complete ends are ends of transactions.
    """
    logs: dict[str, list[tuple[str, int]]] = {"a": [], "b": [], "t": []}
    for number, tables in enumerate(transactions):
        for order, table in enumerate(tables, 1):
            if table != "c":
                logs[table].append((f"x{number}", order))
        logs["t"].append((f"x{number}", 0))
    wanted = [
        f"x{number} {order}"
        for number, tables in enumerate(transactions)
        for order, table in enumerate(tables, 1)
        if table != "c"
    ]
    merging, got = Merging(), []
    while any(logs.values()):
        topic = random.choice([name for name, log in logs.items() if log])  # type: ignore[attr-defined]  # a Random
        transaction, order = logs[topic].pop(0)
        if topic == "t":
            tables = transactions[int(transaction[1:])]
            merging.end(transaction, **{name: tables.count(name) for name in set(tables)})
        else:
            merging.change(A if topic == "a" else B, transaction, order)
        while (batch := merging.taken(rows)) is not None:
            got += said(batch)
            if batch.complete:
                ended = got[-1].split()[0]
                assert got == [one for one in wanted if int(one.split()[0][1:]) <= int(ended[1:])]

    assert wanted == got
