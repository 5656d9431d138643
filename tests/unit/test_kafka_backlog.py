"""Positions and offsets of a Kafka session: whatever is read, cut, confirmed and given up, no offset runs ahead of its
event, and none is left behind.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from replicator.events import Batch, ChangeEvent, Op, Position, Relation, Transaction
from replicator.kafka.backlog import Backlog, Late, Reading
from replicator.kafka.offsets import Yielded, progress_text
from replicator.kafka.replays import Mark
from replicator.partitions import Partition
from replicator.runs import LogRun, Origins, Rows
from replicator.tables import TableName

RELATION = Relation(TableName("public", "items"), ("id",))
PARTITIONS: list[Partition] = [("a", 0), ("a", 1), ("b", 0)]


@dataclass
class Log:
    """What a session does, beside what it should say of it."""

    yielded: Yielded = field(default_factory=Yielded)
    readings: dict[Partition, Reading] = field(default_factory=dict)
    read: list[tuple[Partition, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.backlog = Backlog(self.yielded)
        self.assign(*PARTITIONS)

    def assign(self, *partitions: Partition) -> None:
        for one in partitions:
            self.readings[one] = Reading(one, 0, 0)

    def event(self, partition: Partition, size: int = 10, mark: Mark | None = None) -> None:
        reading = self.readings[partition]
        transaction = Transaction(0, len(self.read), 1.0, self.backlog.number)
        self.backlog.number += 1
        event = ChangeEvent(Op.INSERT, RELATION, None, (b"%d" % reading.read,), transaction, 1)
        self.backlog.add(event, reading, reading.read + 1, size, mark)
        self.read.append((partition, reading.read))
        reading.read += 1

    def events(self, partition: Partition, size: int, count: int, *, as_run: bool = True) -> None:
        """Several at once."""
        reading, at = self.readings[partition], self.readings[partition].read
        offsets = range(at, at + count)
        first = len(self.read)
        self.read += [(partition, offset) for offset in offsets]
        run = LogRun(
            Op.INSERT,
            RELATION,
            Rows([b"%d" % offset for offset in offsets], 1),
            Origins([0] * count, range(first, first + count), [1.0] * count),
            number=self.backlog.number,
            size=size * count,
        )
        self.backlog.number += count
        nexts: list[int] = [at + 1 for at in offsets]
        marks: list[Mark | None] = [(one, one, 1) for one in offsets]
        if as_run:
            self.backlog.add_run(run, reading, nexts, marks)
        else:
            self.backlog.add_all(list(run), reading, nexts, [size] * count, marks)
        reading.read += count

    def nothing(self, partition: Partition) -> None:
        """A record that says nothing, or a control record."""
        self.readings[partition].read += 1

    def cut(self, rows: int = 10_000, size: int = 1 << 20) -> Batch | None:
        return self.backlog.cut(rows, size, self.readings.values())

    def idle(self) -> Batch | None:
        return self.backlog.idle(self.readings.values())

    def progress(self, position: Position) -> str:
        return progress_text(self.yielded.progress(position), self.yielded.marks(position))


def test_progress_names_the_next_offset_of_what_was_given_out() -> None:
    """Of each partition in which something was given out since the last confirmed position, and of no other."""
    log = Log()
    log.event(PARTITIONS[0])
    log.event(PARTITIONS[2])
    first = log.cut()
    log.event(PARTITIONS[0])
    second = log.cut()
    assert first
    assert second

    assert "a/0:1,b/0:1" == log.progress(first.position)
    assert "a/0:2,b/0:1" == log.progress(second.position)
    log.yielded.confirm(first.position)
    assert "a/0:2" == log.progress(second.position)
    log.yielded.confirm(second.position)
    assert "" == log.progress(second.position)


def test_records_without_an_event_move_the_offset_with_the_next_batch() -> None:
    """They lie behind what is given out before them, and never ahead of an event that waits."""
    log = Log()
    log.nothing(PARTITIONS[0])
    log.event(PARTITIONS[0])
    log.nothing(PARTITIONS[0])
    log.event(PARTITIONS[0])
    log.nothing(PARTITIONS[0])
    log.nothing(PARTITIONS[1])

    first, second = log.cut(rows=1), log.cut(rows=1)

    assert first
    assert second
    assert "a/0:2,a/1:1" == log.progress(first.position)
    assert "a/0:5,a/1:1" == log.progress(second.position)
    assert log.idle() is None


def test_idle_progress_is_a_position_of_its_own() -> None:
    """It comes without events, once, and not while events wait."""
    log = Log()
    log.event(PARTITIONS[0])
    log.nothing(PARTITIONS[1])
    assert log.idle() is None
    batch = log.cut()
    assert batch
    log.yielded.confirm(batch.position)
    assert log.idle() is None
    log.nothing(PARTITIONS[1])

    idle = log.idle()

    assert idle
    assert [] == idle.events
    assert idle.position > batch.position
    assert "a/1:2" == log.progress(idle.position)
    assert log.idle() is None


def test_half_a_batch_is_confirmed_by_its_last_event() -> None:
    """A lane that replays a batch in halves asks for the progress at an event, whose offset is done then."""
    log = Log()
    for partition in (PARTITIONS[0], PARTITIONS[1], PARTITIONS[0]):
        log.event(partition)
    batch = log.cut()
    assert batch

    places = [Position(event.transaction.at or 0, event.ordinal) for event in batch.events]

    assert ["a/0:1", "a/0:1,a/1:1", "a/0:2,a/1:1"] == [log.progress(place) for place in places]
    assert places[-1] < batch.position


def test_a_source_transaction_counts_once() -> None:
    """Whichever partitions and batches its events come by; a snapshot's rows are of none, and those without an id of
    one each.
    """
    log = Log()

    def taken(*xids: int, op: Op = Op.UPDATE) -> int:
        for number, xid in enumerate(xids):
            reading = log.readings[PARTITIONS[number % 2]]
            transaction = Transaction(xid, 0, 1.0, log.backlog.number)
            log.backlog.number += 1
            event = ChangeEvent(op, RELATION, None, (b"1",), transaction, 1)
            log.backlog.add(event, reading, reading.read + 1, 10, None)
            reading.read += 1
        batch = log.cut()
        assert batch is not None
        return batch.transactions

    assert [2, 1, 0] == [taken(7, 8, 7), taken(8, 9), taken(9, 7)]
    assert 0 == taken(7, 5, 5, op=Op.READ)
    assert 3 == taken(0, 0, 5)


def test_nothing_behind_a_record_that_goes_back_is_stored() -> None:
    """Until it is proven to be a replay, offsets stay at it, whatever else is given out; what was seen is kept."""
    log = Log()
    one = PARTITIONS[0]
    log.event(one, mark=(1, 1, 1))
    reading = log.readings[one]
    reading.late = Late(RELATION.table, 1, (0, 0))
    log.events(one, 10, 2)  # rows of a snapshot, say
    reading.read = reading.upto(3)
    first = log.cut()
    assert first is not None
    assert "a/0:1@2/2/1" == log.progress(first.position)
    log.yielded.confirm(first.position)

    reading.late = None
    reading.read = reading.upto(3)
    log.event(one, mark=(3, 3, 1))
    second = log.cut()

    assert second is not None
    assert "a/0:4@3/3/1" == log.progress(second.position)


def test_the_newest_event_of_a_position() -> None:
    """For people: the newest at or before it, also after it was confirmed."""
    log = Log()
    log.event(PARTITIONS[0])
    log.event(PARTITIONS[1])
    assert log.yielded.newest(Position(9)) is None
    batch = log.cut()
    assert batch

    assert (0, PARTITIONS[0], 1) == log.yielded.newest(Position(0, 1))
    log.yielded.confirm(batch.position)
    assert (1, PARTITIONS[1], 1) == log.yielded.newest(batch.position)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.none() | st.integers(1, 99), min_size=1, max_size=4)), max_size=12
    ),
    st.lists(st.integers(0, 30), max_size=3),
)
def test_a_transaction_without_end_takes_no_memory(
    runs: list[tuple[int, list[int | None]]], confirmed: list[int]
) -> None:
    """Runs of one transaction are kept as one, and say what all of their events would."""
    yielded, everything = Yielded(), Yielded()
    number = offset = 0
    for step, marks in runs:
        number += step
        places = range(offset + 1, offset + 1 + len(marks))
        told = [None if one is None else (one, place, 1) for one, place in zip(marks, places, strict=True)]
        yielded.note_run([number] * len(told), PARTITIONS[0], places, told)
        for place, mark in zip(places, told, strict=True):  # kept one by one, as different transactions would be
            everything._numbers.setdefault(PARTITIONS[0], []).append(number)
            everything._offsets.setdefault(PARTITIONS[0], []).append(place)
            everything._marks.setdefault(PARTITIONS[0], []).append(mark)
        offset += len(marks)
    assert len(yielded._numbers.get(PARTITIONS[0], ())) == len(set(everything._numbers.get(PARTITIONS[0], ())))
    for at in [*sorted(confirmed), 99]:
        for position in (Position(at), Position(at, 1)):
            assert everything.progress(position) == yielded.progress(position)
            assert everything.marks(position) == yielded.marks(position)
            assert everything.newest(position) == yielded.newest(position)
        assert everything.confirm(Position(at)) == yielded.confirm(Position(at))


def test_what_is_given_up_is_dropped_alone() -> None:
    """The events of other partitions stay, in order, with their sizes; the last number that is lost is told."""
    log = Log()
    for partition in (PARTITIONS[0], PARTITIONS[1], PARTITIONS[0], PARTITIONS[2]):
        log.event(partition, size=100)

    assert 2 == log.backlog.drop({PARTITIONS[0]})
    assert 200 == log.backlog.bytes
    assert log.backlog.drop({PARTITIONS[0]}) is None
    del log.readings[PARTITIONS[0]]
    first, second = log.cut(size=150), log.cut(size=150)
    assert first
    assert second
    assert ["a/1:1", "a/1:1,b/0:1"] == [log.progress(one.position) for one in (first, second)]
    assert 0 == log.backlog.bytes


def test_one_event_larger_than_the_limit_is_given_out_alone() -> None:
    """Whatever its size."""
    log = Log()
    log.event(PARTITIONS[0], size=1000)
    log.event(PARTITIONS[0], size=1)

    batch = log.cut(size=10)

    assert batch
    assert 1 == len(batch.events)
    assert 1000 == batch.bytes


WHERE = st.sampled_from(PARTITIONS)
STEP = st.one_of(
    st.builds(lambda one, size: lambda run: run.read(one, size), WHERE, st.integers(1, 50)),
    st.builds(
        lambda one, size, count, as_run: lambda run: run.log.events(one, size, count, as_run=as_run),
        WHERE,
        st.integers(1, 50),
        st.integers(1, 5),
        st.booleans(),
    ),
    st.builds(lambda rows, size: lambda run: run.give(rows, size), st.integers(1, 4), st.integers(1, 120)),
    st.builds(lambda which: lambda run: run.confirm(which), st.integers(0, 3)),
    st.builds(lambda one: lambda run: run.give_up(one), WHERE),
)


class Run:
    """A session, its feed, and its target."""

    def __init__(self) -> None:
        self.log = Log()
        self.committed = dict.fromkeys(PARTITIONS, 0)
        self.given: dict[Partition, list[int]] = {one: [] for one in PARTITIONS}
        self.positions = [Position(0)]

    def read(self, partition: Partition, size: int) -> None:
        """The next record: every third one says nothing, unless it said something before."""
        offset = self.log.readings[partition].read
        if offset % 3 == 2 and (partition, offset) not in self.log.read:
            self.log.nothing(partition)
        else:
            self.log.event(partition, size, (offset, offset, 1))

    def give(self, rows: int, size: int) -> None:
        batch = self.log.cut(rows, size) or self.log.idle()
        if batch is None:
            return
        assert batch.position > self.positions[-1]
        for event in batch.events:
            assert self.positions[-1] < Position(event.transaction.at or 0, event.ordinal) < batch.position
            partition, offset = self.log.read[event.transaction.commit_lsn]
            self.given[partition].append(offset)
        self.positions.append(batch.position)

    def confirm(self, which: int) -> None:
        position = self.positions[max(0, len(self.positions) - 1 - which)]
        progress, marks = self.log.yielded.progress(position), self.log.yielded.marks(position)
        for one, offset in progress.items():
            newest = [at for at in self.given[one] if self.committed[one] <= at < offset][-1:]
            assert newest == [marks[one][0]] if newest else one not in marks
        assert progress == self.log.yielded.confirm(position)
        assert all(offset > self.committed[one] for one, offset in progress.items())
        self.committed |= progress

    def give_up(self, partition: Partition) -> None:
        """And get it back at once."""
        if not self.log.yielded.holds([partition]):
            self.log.backlog.drop({partition})
            begin = self.committed[partition]
            self.log.readings[partition] = Reading(partition, begin, begin)


@given(st.lists(STEP, max_size=60))
def test_what_is_committed_is_what_was_given_out(steps: list[Callable[[Run], None]]) -> None:
    """Any mixture of reading, giving out, confirming, giving up and getting back: a partition's events are given out
    once, in order, and the offset that is committed lies behind exactly them.
    """
    run = Run()
    for step in steps:
        step(run)
    run.confirm(0)

    for one, reading in run.log.readings.items():
        assert sorted(set(run.given[one])) == run.given[one]
        assert run.committed[one] == reading.noted <= reading.read
        written = {offset for partition, offset in run.log.read if partition == one}
        assert {offset for offset in written if offset < run.committed[one]} == set(run.given[one])
