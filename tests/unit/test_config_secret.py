"""Secrets and connection strings never show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.config import Dsn, Secret


def test_a_secret_shows_only_a_mask() -> None:
    """`repr`, `str` and formatting give the mask; `reveal` gives the text."""
    secret = Secret("hunter2")

    assert f"{secret!r} {secret} {secret!s}" == "******** ******** ********"
    assert secret.reveal() == "hunter2"


def test_secrets_compare_by_value_and_kind() -> None:
    """Equal texts are equal secrets, but never equal to a plain text or to a DSN."""
    assert Secret("x") == Secret("x")
    assert Secret("x") != "x"
    assert Secret("x") != Dsn("x")
    assert len({Secret("x"), Secret("x")}) == 1


@pytest.mark.parametrize(
    "dsn,shown",
    [
        ("postgresql://app:pw@db:5433/crm", "host=db port=5433 dbname=crm user=app password=********"),
        ("postgres://app@a:1,[::1]:2/crm?sslmode=require", "host=a,::1 port=1,2 dbname=crm user=app sslmode=require"),
        ("postgresql:///crm?host=/run/pg&password=pw", "host=/run/pg dbname=crm password=********"),
        (r"host=db password='a b\'pw' user = app", "host=db user=app password=********"),
        ("host=db options='-c x=pw' sslpassword=pw", "host=db options=******** sslpassword=********"),
        ("service=crm", "service=crm"),
    ],
)
def test_a_dsn_is_shown_without_what_is_secret(dsn: str, shown: str) -> None:
    """Both forms of a connection string are shown by their well-known parameters, the rest masked."""
    assert shown == Dsn(dsn).masked()


@pytest.mark.parametrize(
    "dsn",
    [
        "postgres://u:p@ss@h/d",
        "postgres://u:p/ss@h/d",
        "postgres://u:123/ss@h/d",
        "postgres://u:p?ss@h/d",
        "postgres://u:p#ss@h/d",
        "host=h password=p ss",
        "host=h password='p ss",
        "ss",
        "host=h'ss",
    ],
)
def test_a_dsn_that_is_not_understood_is_masked_whole(dsn: str) -> None:
    """An unescaped character that could split a password hides everything."""
    assert Dsn(dsn).masked() == "********"


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=8).map("PW9".__add__),
    st.sampled_from(
        ["postgres://u:{}@h:1/d", "host=h password={} user=u", "host=h password='{}'", "postgres://h/d?password={}"]
    ),
)
def test_no_password_shows_in_a_masked_dsn(password: str, form: str) -> None:
    """Whatever characters a password has, escaped or not, its beginning is never shown."""
    assert "PW9" not in Dsn(form.format(password)).masked()
