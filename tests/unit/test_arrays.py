"""text[] in binary: what a column of many rows travels as."""

from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer

from replicator.postgres.arrays import decode_text_array, encode_text_array

VALUES = st.lists(st.none() | st.binary(max_size=40) | st.integers(2040, 2060).map(lambda size: b"x" * size))


@given(VALUES)
def test_encodes_as_psycopg_does(values: list[bytes | None]) -> None:
    """Byte for byte the array that psycopg's own dumper makes of the same texts."""
    texts = [None if value is None else value.decode("latin-1").encode().decode() for value in values]
    encoded = [None if text is None else text.encode() for text in texts]

    if any(text is not None for text in texts):  # psycopg can't tell the type of a list without any
        transformer = Transformer()
        dumper = transformer.get_dumper(texts, PyFormat.BINARY)
        expected = bytes(dumper.dump(texts) or b"")
        assert 25 == int.from_bytes(expected[8:12], "big")
        assert expected == encode_text_array(encoded)


@given(st.lists(st.binary(max_size=30)))
def test_keys_come_back(key: list[bytes]) -> None:
    """What is stored as a key is read as the same key."""
    assert tuple(key) == decode_text_array(encode_text_array(key))


def test_empty_array_has_no_dimension() -> None:
    """No rows are an empty array, as array_recv wants it."""
    assert bytes(8) + (25).to_bytes(4, "big") == encode_text_array([])
