"""What is left of a table, however it was cut and wherever it was interrupted."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.copies import Chunk, CopiedTable
from replicator.engine.chunks import Portion, Walk, gaps, parents_first
from replicator.engine.copy_text import parse_rows, row_groups
from replicator.events import Key
from replicator.mapping import Mapping, Side
from replicator.tables import Column, ForeignKey, Table, TableName, UniqueKey


def table(name: str, *, refers_to: Sequence[str] = (), rows_estimate: int = -1, size: int = 0) -> Table:
    return Table(
        TableName("public", name),
        (Column("id", 20, "bigint", "bigint", nullable=False),),
        unique_keys=(UniqueKey(f"{name}_pkey", ("id",), primary=True),),
        foreign_keys=tuple(ForeignKey(f"to_{one}", ("id",), TableName("public", one), ("id",)) for one in refers_to),
        rows_estimate=rows_estimate,
        bytes=size,
    )


def mapping(name: str, *, refers_to: Sequence[str] = ()) -> Mapping:
    side = Side(table(name, refers_to=refers_to), ("id",))
    return Mapping(name, (side,), (side,))


def key(number: int) -> Key:
    return (b"%06d" % number,)


class Server:
    """Rows with keys 0 … size - 1, and what was copied of them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.copied: list[int] = []
        self.chunks: list[Chunk] = []

    def count_before(self, after: Key | None, rows: int, upto: Key | None) -> Key | None:
        at = (-1 if after is None else int(after[0])) + rows
        last = self.size - 1 if upto is None else int(upto[0])
        return key(at) if at <= last else None

    def copy(self, chunk: Chunk) -> None:
        low = -1 if chunk.after is None else int(chunk.after[0])
        high = self.size - 1 if chunk.upto is None else int(chunk.upto[0])
        self.copied.extend(range(low + 1, high + 1))
        self.chunks = [*(one for one in self.chunks if one.number != chunk.number), chunk]


@given(st.integers(0, 60), st.lists(st.integers(1, 20), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_every_row_is_copied_exactly_once(size: int, chunk_rows: list[int], chance: random.Random) -> None:
    """Killed at any time, with any number of workers and any size of chunks, no row is skipped or copied twice."""
    server, work = Server(size), mapping("t")
    for rows in [*chunk_rows, 7]:
        walk = Walk(work, CopiedTable("t", 0, 0, complete=False, chunks=tuple(server.chunks)))
        in_hand: list[Chunk] = []
        steps = chance.randrange(1, 30) if rows != 7 else 10_000
        while steps and not walk.settled:
            steps -= 1
            if walk.takeable and (len(in_hand) < 3 or not in_hand) and chance.random() < 0.6:
                gap = walk.take()
                in_hand.append(walk.cut(gap, server.count_before(gap.chunk.after, rows, gap.chunk.upto)))
            elif in_hand:
                chunk = in_hand.pop(chance.randrange(len(in_hand)))
                server.copy(chunk)
                walk.done(chunk)
        if walk.settled:
            break
    assert list(range(size)) == sorted(server.copied)
    assert [] == gaps("t", server.chunks)


def test_the_last_chunk_completes_the_table() -> None:
    """Only a chunk that is alone in hand, with nothing left and nothing failed, may complete its table."""
    walk = Walk(mapping("t"))
    first = walk.cut(walk.take(), key(5))
    assert not walk.last
    second = walk.cut(walk.take(), None)
    assert not walk.last
    walk.done(first)
    assert walk.last
    walk.done(second)
    assert walk.settled


def test_a_failed_chunk_is_left_for_the_next_run() -> None:
    """What failed doesn't complete the table, and is the gap of the next run."""
    walk = Walk(mapping("t"))
    first = walk.cut(walk.take(), key(5))
    second = walk.cut(walk.take(), None)
    walk.done(second)
    walk.fail(first)
    assert walk.settled
    assert not walk.last
    (gap,) = gaps("t", [second])
    assert (None, key(5)) == (gap.chunk.after, gap.chunk.upto)


def test_an_abandoned_table_hands_out_nothing() -> None:
    """The rest of a table that can't be copied at all is not tried."""
    walk = Walk(mapping("t"))
    walk.fail(walk.cut(walk.take(), key(5)))
    walk.abandon()
    assert walk.settled
    assert [None, key(5)] == [chunk.after for chunk in walk.failed]


def test_parents_come_first() -> None:
    """A table follows those that it refers to, and waits for them; others keep their order."""
    found = parents_first(
        [mapping("c", refers_to=["b", "a"]), mapping("b", refers_to=["a"]), mapping("z"), mapping("a")]
    )
    assert ["z", "a", "b", "c"] == [one.name for one, _ in found]
    assert {"z": set(), "a": set(), "b": {"a"}, "c": {"a", "b"}} == {one.name: set(names) for one, names in found}


def test_a_circle_of_references_is_cut() -> None:
    """Tables that refer to each other don't wait for each other, and one that refers to itself doesn't for itself."""
    found = parents_first([mapping("a", refers_to=["b"]), mapping("b", refers_to=["a", "b"])])
    assert [("a", set()), ("b", {"a"})] == [(one.name, set(names)) for one, names in found]


def test_portions_learn_the_size_of_rows() -> None:
    """Rows are asked for by what they were seen to weigh; large ones count at once."""
    portion = Portion(table("t", rows_estimate=1000, size=100_000), bytes_max=10_000)
    assert 100 == portion.rows
    portion.saw(10, 50_000)
    assert 2 == portion.rows
    portion.saw(10, 1_000)
    assert 2 < portion.rows < 100
    portion.saw(1, 1_000_000)
    assert 1 == portion.rows


@pytest.mark.parametrize(
    "line, row",
    [
        (b"1\tone\n", (b"1", b"one")),
        (b"\\N\t\n", (None, b"")),
        (b"\\\\N\t\\t\\n\\r\\b\\f\\v\\\\\n", (b"\\N", b"\t\n\r\b\f\v\\")),
        (b"a\\\\tb\n", (b"a\\tb",)),
        ("ä\\\\😀\n".encode(), ("ä\\😀".encode(),)),
        (b"\n", (b"",)),
    ],
)
def test_copy_text_is_read(line: bytes, row: tuple[bytes | None, ...]) -> None:
    """Escapes and NULL markers of COPY's text format, next to text that looks like them."""
    assert [row] == parse_rows(line)


def test_copy_text_comes_in_bounded_groups() -> None:
    """Rows of any number of blocks come in groups of about the given size, in order."""

    async def blocks() -> AsyncIterator[bytes]:
        for number in range(10):
            yield b"%d\n" % number * 10

    async def collect() -> list[int]:
        groups = [group async for group in row_groups(blocks(), 40)]
        assert [(b"0",)] * 10 == groups[0][:10]
        return [len(group) for group in groups]

    assert [20] * 5 == asyncio.run(collect())
