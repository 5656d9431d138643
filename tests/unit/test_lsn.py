"""Log sequence numbers as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.postgres.lsn import format_lsn, parse_lsn


@given(st.integers(0, (1 << 64) - 1))
def test_text_and_back(lsn: int) -> None:
    """Every LSN survives its text."""
    assert lsn == parse_lsn(format_lsn(lsn))


def test_as_the_server_prints_it() -> None:
    """The text is PostgreSQL's own."""
    assert "16/B374D848" == format_lsn(0x16_B374D848)


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/123456789", "0/1 ", "g/1", "0/1#2"])
def test_what_is_no_lsn(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="log sequence number"):
        parse_lsn(text)
