"""Connector files that nobody should write, and secrets that nobody should see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.config import (
    ConfigError,
    Connector,
    Problem,
    parse_connector,
)

ENVIRON = {"OLD_DSN": "postgresql://app:hunter2@old/crm", "NEW_DSN": "host=new password=hunter3"}
HEAD = 'name: crm\nold: {dsn: "${OLD_DSN}"}\nupgraded: {dsn: "${NEW_DSN}"}\n'
TABLES = 'tables: [{old: "public.*"}]\n'


def _load(text: str, environ: Mapping[str, str] = ENVIRON, path: Path = Path("x.yaml")) -> Connector:
    return parse_connector(text.encode(), path, environ)


def _problems(text: str, environ: Mapping[str, str] = ENVIRON) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _load(text, environ)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("value", ["x, drop: [y]", "a: b", "\n  lanes: 5", "*x", "!t", "~", "[a]", "'", "#"])
def test_a_value_can_not_become_structure(value: str) -> None:
    """What an environment variable holds stays one text, whatever YAML would make of it."""
    connector = _load(HEAD + TABLES + "checks:\n- name: ${V}\n  old: x", {**ENVIRON, "V": value})

    assert value == connector.checks[0].name


@pytest.mark.parametrize(
    "body",
    [
        'old: {dsn: "hunter2"}',
        "old: {dsn: [hunter2]}",
        "old: {dsn: {password: hunter2}}",
        "old: {postgres://u:hunter2@h/d}",
        "old: postgres://u:hunter2@h/d",
        "old: {dsn: *hunter2}",
        "old: {dsn: !hunter2 x}",
        "old: {dsn: 'x=hunter2' 'hunter2'}",
        'old: {dsn: "\\qhunter2"}',
        "old: {dsn: @hunter2}",
        "name: ${S}",
        "apply: {lanes: '${S}', on_error: '${S}', batch_bytes_max: '${S}'}",
        "http: {listen: '${S}', token: [hunter2]}",
        "stream: {kind: '${S}'}",
        "stream: {kind: kafka, settings: {a: [hunter2]}, connect_url: 'http://u:hunter2@h'}",
        "cutover: {router: {kind: webhook, url: 'hunter2'}}",
        "tables: [{old: '${S}', columns: {'postgres://u:hunter2@h': ''}}]",
        "transforms: ${S}",
    ],
)
def test_no_error_repeats_a_secret(body: str) -> None:
    """A value in a secret's place, or one that was substituted, is in no text, repr or field of the error."""
    with pytest.raises(ConfigError) as caught:
        _load(body, {"S": "hunter2"})
    error = caught.value

    assert "hunter2" not in f"{error} {error!r} {error.problems} {error.facts()}"
    assert error.__context__ is None


def test_anchors_and_merge_keys_work_as_in_yaml() -> None:
    """An alias repeats a node; merged keys give way to explicit ones."""
    connector = _load(
        HEAD.replace("old: {", "old: &db {").replace('upgraded: {dsn: "${NEW_DSN}"}', "upgraded: {<<: *db, dsn: b=c}")
        + TABLES
    )

    assert (ENVIRON["OLD_DSN"], "b=c") == (connector.old.dsn.reveal(), connector.upgraded.dsn.reveal())


def test_an_alias_bomb_is_refused() -> None:
    """Nine levels of nine aliases each end at a limit, in no time."""
    levels = ["x0: &x0 [a, a]"] + [
        f"x{level}: &x{level} [{', '.join([f'*x{level - 1}'] * 9)}]" for level in range(1, 20)
    ]

    assert "more than 100000 values" in _problems("\n".join(levels))[0]


def test_a_thousand_tables_load(tmp_path: Path) -> None:
    """One connector may name a thousand tables."""
    tables = "".join(f"  - {{old: public.t{n}, columns: {{a: b}}, drop: [c]}}\n" for n in range(1000))

    assert len(_load(HEAD + "tables:\n" + tables).tables) == 1000


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    """Whatever a file holds, it is a connector or a `ConfigError`."""
    with pytest.raises(ConfigError):
        parse_connector(raw, Path("x.yaml"), {})


_KEYS = st.sampled_from(
    ["name", "old", "upgraded", "dsn", "stream", "kind", "tables", "columns", "drop", "key", "apply", "lanes", "retry"]
) | st.sampled_from(
    ["max", "cutover", "router", "switch", "http", "listen", "token", "checks", "exclude", "references", "settings"]
)
_WORDS = _KEYS | st.sampled_from(
    ["slot", "kafka", "command", "<<", "${A}", "${B:-1}", "$${", "~", "1", "5s", "16MiB", "public.*", "a.b"]
)
_TEXTS = _WORDS | st.text(max_size=8)
_TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(_WORDS, _TREES, max_size=5))
def test_no_structure_breaks_the_reader(tree: dict[str, object]) -> None:
    """Known words in unknown places give a connector or a `ConfigError`, each problem with a place."""
    head = {"name": "a", "old": {"dsn": "a=b"}, "upgraded": {"dsn": "a=b"}, "tables": [{"old": "a.*"}]}
    problems: tuple[Problem, ...] = ()
    try:
        parse_connector(json.dumps(head | tree).encode(), Path("x.yaml"), {"A": "a"})
    except ConfigError as error:
        problems = error.problems

    assert all(problem.line and problem.column for problem in problems)


@given(st.lists(st.sampled_from(list("{}[]:,-?&*!|>'\"%@`#\t\n ab\\~<$")), max_size=40).map("".join))
def test_no_punctuation_breaks_the_reader(text: str) -> None:
    """Any heap of YAML's own characters below a key is a `ConfigError`."""
    with pytest.raises(ConfigError):
        parse_connector(f"bogus: {text}".encode(), Path("x.yaml"), {})
