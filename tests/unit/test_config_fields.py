"""Single values of a connector: tables, addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.config import Address, TablePattern
from replicator.tables import TableName

_NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=15)


@given(_NAMES, st.none() | _NAMES)
def test_a_table_pattern_survives_its_text(schema: str, name: str | None) -> None:
    """Any schema and table, with quotes, dots, blanks and stars in their names, can be written and is read back."""
    pattern = TablePattern(schema, name)

    assert pattern == TablePattern.parse(str(pattern))


@pytest.mark.parametrize(
    "text,schema,name",
    [
        ("public.users", "public", "users"),
        ("public.*", "public", None),
        ('public."Weird.Name"', "public", "Weird.Name"),
        ('"My Schema".*', "My Schema", None),
        ('public."*"', "public", "*"),
    ],
)
def test_a_table_pattern_is_read_as_written(text: str, schema: str, name: str | None) -> None:
    """Quoted parts may hold anything; an unquoted star means all tables."""
    assert TablePattern(schema, name) == TablePattern.parse(text)


@pytest.mark.parametrize("text", ["", "users", "a.b.c", "*.*", "pub*.x", 'public."x', "a..b", "a.b ", "x." + "y" * 64])
def test_what_names_no_table_is_refused(text: str) -> None:
    """A table needs its schema, and nothing else around it."""
    with pytest.raises(ValueError, match="expected"):
        TablePattern.parse(text)


def test_a_pattern_matches_its_own_tables() -> None:
    """A wildcard matches its schema's tables, a name only itself."""
    users = TableName("public", "users")

    assert [
        TablePattern.parse(text).matches(users) for text in ("public.*", "public.users", "crm.*", "public.user")
    ] == [True, True, False, False]


@pytest.mark.parametrize("text", ["127.0.0.1:8650", "[::1]:0", "localhost:65535", "0.0.0.0:80", "[::]:80"])
def test_an_address_survives_its_text(text: str) -> None:
    """Hosts and ports are read and printed in one form."""
    assert text == str(Address.parse(text))


@pytest.mark.parametrize("text", ["", ":80", "host", "host:", "host:65536", "::1:80", "a b:1", "host:٣"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Host and port are both needed, and IPv6 in brackets."""
    with pytest.raises(ValueError, match="expected host:port"):
        Address.parse(text)


def test_only_this_machines_own_addresses_are_loopback() -> None:
    """A name that only begins like a loopback address is none."""
    assert [Address(host, 1).loopback for host in ("127.8.0.1", "::1", "localhost", "127.example.com", "0.0.0.0")] == [
        True,
        True,
        True,
        False,
        False,
    ]
