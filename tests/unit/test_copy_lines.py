"""COPY text: what is read from it is what was given."""

from hypothesis import given
from hypothesis import strategies as st

from replicator.engine.copy_text import parse_rows
from replicator.events import Values
from replicator.postgres.copy_lines import copy_blocks
from replicator.runs import Rows

# Few characters, so that those with a meaning to COPY meet each other.
VALUES = st.none() | st.text(alphabet="\\Nntr.\t\n\rx é", max_size=6).map(str.encode)
ROWS = st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[VALUES] * width), min_size=1, max_size=8))


@given(ROWS)
def test_rows_come_back_as_they_were(rows: list[Values]) -> None:
    """Tabs, line ends, backslashes and NULLs mean themselves; no bare carriage return is left to be taken for one."""
    text = b"".join(copy_blocks(rows))

    assert text == b"".join(copy_blocks(Rows.join([rows], len(rows[0]))))
    assert rows == parse_rows(text)
    assert b"\r" not in text
