"""A row's key as a person gives it."""

import pytest

from replicator.engine.verify.places import GivenKey


@pytest.mark.parametrize(
    "words, columns, key",
    [
        (["5"], ("id",), (b"5",)),
        (["id=5"], ("id",), (b"5",)),
        (["b=x", "a=1"], ("a", "b"), (b"1", b"x")),
        (["1", "x"], ("a", "b"), (b"1", b"x")),
        (["1"], ("a", "b"), None),
        (["id=5"], ("user_id",), None),
        (["a=1"], ("a", "b"), None),
        (["id=a=b"], ("id",), (b"a=b",)),
        (["=x"], ("id",), (b"=x",)),
        (["id="], ("id",), (b"",)),
    ],
)
def test_by_name_or_in_order(words: list[str], columns: tuple[str, ...], key: tuple[bytes, ...] | None) -> None:
    """`name=value` in any order, or plain values in the key's; other columns, or another number of them, mean none."""
    assert key == GivenKey.parse(words).of(columns)
