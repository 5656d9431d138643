"""The backlog: batches end at transaction ends, within the limits, and nothing is lost or doubled."""

from hypothesis import given
from hypothesis import strategies as st

from replicator.events import Batch, ChangeEvent, Op, Position, Relation, Transaction
from replicator.postgres.backlog import Backlog
from replicator.runs import Run
from replicator.tables import TableName
from tests.in_runs import run_of

RELATION = Relation(TableName("public", "t"), ("id",))


def arrive(backlog: Backlog, commit_lsn: int, sizes: list[int], first: int = 1) -> None:
    """Add events of the transaction that commits there, without its end."""
    transaction = Transaction(1, commit_lsn, float(commit_lsn))
    events = [
        ChangeEvent(Op.INSERT, RELATION, None, (b"%d" % ordinal,), transaction, ordinal)
        for ordinal, _ in enumerate(sizes, first)
    ]
    if events:
        backlog.add(events, sizes, 0)


def end(backlog: Backlog, commit_lsn: int) -> None:
    backlog.end(Position(commit_lsn + 5), float(commit_lsn))


def cut(backlog: Backlog, rows_max: int = 10, bytes_max: int = 1000, *, forced: bool = False) -> Batch | None:
    return backlog.cut(rows_max, bytes_max, parts=True, forced=forced)


def test_whole_transactions_up_to_the_limits() -> None:
    """As many whole transactions as fit come at once; the position is the last one's end."""
    backlog = Backlog(Position(0))
    for lsn in (10, 20, 30):
        arrive(backlog, lsn, [1, 1])
        end(backlog, lsn)

    batch = cut(backlog, rows_max=5)

    assert batch is not None
    assert (4, Position(25), True, 2) == (len(batch.events), batch.position, batch.complete, batch.transactions)
    assert (10.0, 20.0, 4) == (batch.first_commit_time, batch.commit_time, batch.bytes)


def test_the_beginning_of_a_transaction_waits() -> None:
    """A transaction within the limits is given out when its end has arrived, not before."""
    backlog = Backlog(Position(0))
    arrive(backlog, 10, [1, 1])
    waiting = cut(backlog)
    end(backlog, 10)

    assert waiting is None
    assert cut(backlog) is not None


def test_a_large_transaction_comes_in_parts() -> None:
    """A transaction above a limit comes in parts: positions inside it, then its end, and what follows it waits."""
    backlog = Backlog(Position(0))
    arrive(backlog, 10, [1] * 7)
    parts = [cut(backlog, rows_max=3), cut(backlog, rows_max=3), cut(backlog, rows_max=3)]
    end(backlog, 10)
    arrive(backlog, 20, [1])
    end(backlog, 20)
    parts += [cut(backlog, rows_max=3), cut(backlog, rows_max=3)]

    assert [
        (3, Position(10, 3), False),
        (3, Position(10, 6), False),
        None,
        (1, Position(15), True),
        (1, Position(25), True),
    ] == [part and (len(part.events), part.position, part.complete) for part in parts]


def test_the_end_of_a_transaction_in_parts_comes_alone() -> None:
    """Where all events of a large transaction were given out, its end still is: the target waits with its commit."""
    backlog = Backlog(Position(0))
    arrive(backlog, 10, [1] * 3)
    cut(backlog, rows_max=3)
    end(backlog, 10)

    batch = cut(backlog, rows_max=3)

    assert batch is not None
    assert ([], Position(15), True, 1) == (batch.events, batch.position, batch.complete, batch.transactions)


def test_one_event_above_the_limit() -> None:
    """An event larger than the limit comes alone, as a whole transaction if it is one."""
    backlog = Backlog(Position(0))
    arrive(backlog, 10, [5000])
    end(backlog, 10)

    batch = cut(backlog)

    assert batch is not None
    assert (1, True, 5000) == (len(batch.events), batch.complete, batch.bytes)


def test_a_full_buffer_gives_out_what_it_has() -> None:
    """When nothing more can arrive, a part smaller than the limits comes."""
    backlog = Backlog(Position(0))
    arrive(backlog, 10, [1, 1])

    batch = cut(backlog, forced=True)

    assert batch is not None
    assert (2, Position(10, 2), False) == (len(batch.events), batch.position, batch.complete)


def test_idle_progress_moves_the_position() -> None:
    """Ends without events are one batch without events; with events before them they belong to these."""
    backlog = Backlog(Position(0))
    end(backlog, 10)
    end(backlog, 20)
    nothing, idle = cut(backlog), backlog.idle_batch()
    arrive(backlog, 30, [1])
    end(backlog, 30)
    backlog.end(Position(99), None)

    batch = cut(backlog)

    assert nothing is None
    assert idle is not None
    assert ([], Position(25), 20.0) == (idle.events, idle.position, idle.commit_time)
    assert batch is not None
    assert (Position(99), 30.0, 1) == (batch.position, batch.commit_time, batch.transactions)
    assert backlog.idle_batch() is None


def arrive_in_runs(backlog: Backlog, commit_lsn: int, size: int, count: int, first: int = 1) -> None:
    """Add a run of so many events of one size."""
    transaction = Transaction(1, commit_lsn, float(commit_lsn))
    events = [
        ChangeEvent(Op.INSERT, RELATION, None, (b"%d" % (first + at),), transaction, first + at) for at in range(count)
    ]
    run = run_of(events)
    backlog.add_run(Run(run.op, run.relation, run.rows, run.transaction, first=first, size=size * count), 0)


def test_runs_are_cut_where_the_limits_are() -> None:
    """A run is given out in parts, by rows and by its share of bytes, and together with what stands around it."""
    backlog = Backlog(Position(0))
    arrive_in_runs(backlog, 10, 10, 25)
    by_rows, by_bytes = cut(backlog, rows_max=8, bytes_max=100), cut(backlog, rows_max=8, bytes_max=50)
    arrive(backlog, 10, [1, 1], first=26)
    rest = [cut(backlog, rows_max=8, bytes_max=1000), cut(backlog, rows_max=3, bytes_max=1000)]

    assert [(8, 80), (5, 50), (8, 80), (3, 30)] == [
        batch and (len(batch.events), batch.bytes) for batch in (by_rows, by_bytes, *rest)
    ]
    arrive_in_runs(backlog, 10, 10, 4, first=28)
    end(backlog, 10)
    last = cut(backlog, rows_max=20)
    assert last is not None
    assert (list(range(25, 32)), True, 10 + 2 + 40) == (
        [event.ordinal for event in last.events],
        last.complete,
        last.bytes,
    )
    assert 0 == backlog.pending_bytes == backlog.rows


TRANSACTIONS = st.lists(
    st.lists(st.integers(1, 400), max_size=12)
    | st.tuples(st.integers(1, 400), st.integers(1, 12)).map(lambda run: [run[0]] * run[1]),
    max_size=12,
)


def arrive_somehow(backlog: Backlog, commit_lsn: int, sizes: list[int], first: int = 1) -> None:
    """Events of equal size in a run, others alone."""
    if len(set(sizes)) == 1 and len(sizes) > 1:
        arrive_in_runs(backlog, commit_lsn, sizes[0], len(sizes), first)
    else:
        arrive(backlog, commit_lsn, sizes, first)


@given(TRANSACTIONS, st.integers(1, 8), st.integers(1, 1500), st.data())
def test_nothing_is_lost(transactions: list[list[int]], rows_max: int, bytes_max: int, data: st.DataObject) -> None:
    """However arrivals and takes interleave: every event once, in order, within limits, positions that only grow."""
    backlog = Backlog(Position(0))
    batches: list[Batch] = []

    def take(*, forced: bool = False) -> None:
        while (batch := cut(backlog, rows_max, bytes_max, forced=forced)) is not None:
            batches.append(batch)

    for number, sizes in enumerate(transactions, 1):
        half = data.draw(st.integers(0, len(sizes)))
        arrive_somehow(backlog, number * 10, sizes[:half])
        if data.draw(st.booleans()):
            take(forced=data.draw(st.booleans()))
        arrive_somehow(backlog, number * 10, sizes[half:], half + 1)
        end(backlog, number * 10)
        if data.draw(st.booleans()):
            take()
    take()

    assert [(n * 10, o) for n, sizes in enumerate(transactions, 1) for o in range(1, len(sizes) + 1)] == [
        (event.transaction.commit_lsn, event.ordinal) for batch in batches for event in batch.events
    ]
    positions = [batch.position for batch in batches]
    assert sorted(set(positions)) == positions
    assert all(len(batch.events) <= rows_max for batch in batches)
    assert all(batch.bytes <= bytes_max or len(batch.events) == 1 for batch in batches)
    assert all(batch.complete == (batch.position.ordinal == 0) for batch in batches)
    assert sum(bool(sizes) for sizes in transactions) == sum(batch.transactions for batch in batches)
    assert 0 == backlog.pending_bytes
