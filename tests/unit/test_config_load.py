"""Connector files as users write them, right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from replicator.config import (
    ConfigError,
    Connector,
    KafkaStream,
    PgbouncerRouter,
    load_connector,
    load_connectors,
    parse_connector,
)
from replicator.errors import ErrorKind
from replicator.tables import TableName

ENVIRON = {"OLD_DSN": "postgresql://app:hunter2@old/crm", "NEW_DSN": "host=new password=hunter3"}
HEAD = 'name: crm\nold: {dsn: "${OLD_DSN}"}\nupgraded: {dsn: "${NEW_DSN}"}\n'
TABLES = 'tables: [{old: "public.*"}]\n'


def _load(text: str, environ: Mapping[str, str] = ENVIRON, path: Path = Path("x.yaml")) -> Connector:
    return parse_connector(text.encode(), path, environ)


def _problems(text: str, environ: Mapping[str, str] = ENVIRON) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _load(text, environ)
    return [str(problem) for problem in caught.value.problems]


def test_the_designed_connector_loads(tmp_path: Path) -> None:
    """The sample of the design gives every value in its type, relative to its file."""
    (tmp_path / "crm.py").touch()
    file = tmp_path / "crm.yaml"
    file.write_text(
        HEAD
        + """
stream:   {kind: slot}
transforms: crm.py
tables:
  - {old: "public.*"}
  - {old: public.countries, upgraded: ref.countries, columns: {iso: iso_code}, drop: [legacy_id]}
apply:    {lanes: 1, batch_rows_max: 10000, batch_bytes_max: 16MiB, on_error: stop}
cutover:  {max_pause: 5s, lag_max: 250ms, router: {kind: pgbouncer, dsn: "${OLD_DSN}"}, reverse: off}
http:     {listen: "127.0.0.1:8650"}
"""
    )

    connector = load_connector(file, ENVIRON)

    assert ("crm", tmp_path / "crm.py") == (connector.name, connector.transforms)
    assert connector.apply.batch_bytes_max == 16 << 20
    assert timedelta(milliseconds=250) == connector.cutover.lag_max
    assert isinstance(connector.cutover.router, PgbouncerRouter)
    assert not connector.cutover.reverse
    assert ENVIRON["OLD_DSN"] == connector.old.dsn.reveal()
    assert connector.tables[1].columns == {"iso": "iso_code"}


def test_a_connector_needs_little() -> None:
    """Name, two databases and tables are enough; the rest has defaults, slot and publication from the name."""
    connector = _load(HEAD + TABLES)

    assert (connector.slot_name, connector.publication_name) == ("replicator_crm", "replicator_crm")
    assert (connector.apply.lanes, connector.apply.batch_rows_max, connector.apply.on_error) == (1, 10_000, "stop")


def test_continuous_verification_is_one_word() -> None:
    """`verify: continuous` is the section with that on, and the rest by default; another word is refused."""
    word, section = (_load(f"{HEAD}{TABLES}verify: {text}\n") for text in ("continuous", "{continuous: on}"))

    assert word.verify == section.verify
    assert word.verify.continuous
    assert not _load(HEAD + TABLES).verify.continuous
    (problem,) = _problems(f"{HEAD}{TABLES}verify: always\n")
    assert "verify: expected `continuous`, or a mapping" in problem


def test_kafka_is_a_stream_too() -> None:
    """The stream's kind chooses its keys; settings may be secret and never show."""
    connector = _load(
        HEAD + TABLES + "stream: {kind: kafka, bootstrap_servers: 'a:1', format: debezium-json, topic_prefix: old,"
        " settings: {sasl.password: hunter4}}\n"
    )

    assert isinstance(connector.stream, KafkaStream)
    assert connector.stream.settings["sasl.password"].reveal() == "hunter4"
    assert "hunter" not in repr(connector) + connector.model_dump_json()


def test_a_table_s_own_entry_stands_before_its_schema_s() -> None:
    """Mappings are found by old table: exact, then wildcard without what it excludes."""
    connector = _load(
        HEAD + 'tables: [{old: "public.*", upgraded: "crm.*", exclude: [public.log]}, {old: public.a, upgraded: ref.b}]'
    )
    found = [connector.mapping_of(TableName("public", name)) for name in ("a", "z", "log")]

    assert [
        entry and str(entry.upgraded_table(TableName("public", name)))
        for entry, name in zip(found, ("a", "z", "log"), strict=True)
    ] == ["ref.b", "crm.z", None]


def test_words_that_yaml_takes_for_booleans_are_names() -> None:
    """A column named `no` or `on`, or one that looks like a number, stays what is written."""
    connector = _load(HEAD + "tables: [{old: public.a, columns: {no: on, 007: 1e3}, drop: [yes, null_]}]")

    assert connector.tables[0].columns == {"no": "on", "007": "1e3"}
    assert connector.tables[0].drop == ("yes", "null_")


@pytest.mark.parametrize(
    "body,expected",
    [
        ("tabels: []\n" + TABLES, "x.yaml:4:1: unknown key 'tabels' in connector; did you mean 'tables'?"),
        (
            TABLES + "stream: {slt: a}",
            "x.yaml:5:10: unknown key 'slt' in stream; did you mean 'slot'?",
        ),
        (
            TABLES + "cutover: {router: {kind: command, swich: [a], switch: [a]}}",
            "x.yaml:5:35: unknown key 'swich' in cutover.router; did you mean 'switch'?",
        ),
        (TABLES + "apply: {lanes: 1}\napply: {}", "x.yaml:6:1: duplicate key 'apply', first at 5:1"),
        (TABLES + "apply:\n  lanes: two", "x.yaml:6:10: apply.lanes: expected a whole number, not 'two'"),
        (TABLES + "apply: {lanes: 65}", "x.yaml:5:16: apply.lanes: expected at most 64, not '65'"),
        (TABLES + "apply: [1]", "x.yaml:5:8: apply: expected a mapping (key: value)"),
        (TABLES + "apply:", "x.yaml:5:7: apply: is empty: give it a value, or remove the key"),
        (TABLES + "checks: {a: b}", "x.yaml:5:1: checks: expected a list"),
        (
            TABLES + "apply: {on_error: stopp}",
            "x.yaml:5:19: apply.on_error: expected 'stop' or 'dlq', not 'stopp'; did you mean 'stop'?",
        ),
        (
            TABLES + "stream: {kind: kafak}",
            "x.yaml:5:16: stream.kind: expected 'slot' or 'kafka', not 'kafak'; did you mean 'kafka'?",
        ),
        (TABLES + "cutover: {router: {}}", "x.yaml:5:11: missing key 'kind' in cutover.router"),
        (
            TABLES + "cutover: {max_pause: 5}",
            "x.yaml:5:22: cutover.max_pause: expected a duration with a unit, such as 250ms, 5s or 1m30s, not '5'",
        ),
        (TABLES + "transforms: no.py", "x.yaml:5:13: transforms: no such file beside the connector, not 'no.py'"),
        ("tables: []", "x.yaml:1:1: nothing to replicate: expected tables, or transforms"),
        ("tables: [{upgraded: a.b}]", "x.yaml:4:10: missing key 'old' in tables[0]"),
        (
            'tables: [{old: "a.*", upgraded: b.c}]',
            "x.yaml:4:33: tables[0].upgraded: old and upgraded are both schema.*, or both one table",
        ),
        ("tables: [{old: a.b}, {old: a.b}]", "x.yaml:4:28: tables[1].old: the same as in an entry above"),
        (
            TABLES + 'http: {listen: "0.0.0.0:80"}',
            "x.yaml:5:16: http.listen: an address beyond loopback needs http.token",
        ),
        (
            TABLES + "http: {token: ${T}}",
            'x.yaml:5:16: the file is not valid YAML: inside { } and [ ] a reference is written in quotes: "${NAME}"',
        ),
        (TABLES + "apply:\n\tlanes: 1", "x.yaml:6:1: the file is not valid YAML: a tab; YAML is indented with spaces"),
        (TABLES + "---\nname: b", "x.yaml:5:1: a second document; one file holds one connector"),
        (TABLES + "http: !secret x", "x.yaml:5:7: tags (!) are not supported"),
        (TABLES + "http: *x", "x.yaml:5:7: an alias (*) of an anchor (&) that isn't above"),
        (TABLES + "http: &x [*x]", "x.yaml:5:11: an alias (*) of an anchor (&) that isn't above"),
        (TABLES + "? [a]\n: b", "x.yaml:5:3: expected a word as key"),
        (TABLES + "http: " + "[" * 500, "x.yaml:5:38: nested deeper than 32 levels"),
        (TABLES + 'http: "\\0"', "x.yaml:5:7: a value that is not text (NUL or half a surrogate pair)"),
        (TABLES + "http: \x01", "x.yaml:5:7: a character YAML doesn't allow"),
    ],
)
def test_a_mistake_is_named_with_its_place(body: str, expected: str) -> None:
    """Each mistake gives one line: file, line, column, what is expected, and what was probably meant."""
    assert expected in _problems(HEAD + body)


@pytest.mark.parametrize(
    "raw,expected",
    [
        (b"", "x.yaml:1:1: the file is empty; a connector is expected"),
        (b"# nothing\n", "x.yaml:1:1: the file is empty; a connector is expected"),
        (b"--- ~\n", "x.yaml:1:1: the file is empty; a connector is expected"),
        (b"- a\n", "x.yaml:1:1: expected a mapping (key: value) at the top"),
        (b"name: a\nold: \xff", "x.yaml:2:6: the file is not UTF-8 text"),
        ("name: a".encode("utf-16"), "x.yaml:1:1: the file is not UTF-8 text"),
        (b"#" * 2_000_000, "x.yaml:1:1: the file is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_connector_is_refused(raw: bytes, expected: str) -> None:
    """Empty files, lists, other encodings and huge files are named for what they are."""
    with pytest.raises(ConfigError) as caught:
        parse_connector(raw, Path("x.yaml"), {})

    assert expected == str(caught.value)


def test_all_problems_come_at_once_in_order() -> None:
    """Unset variables, unknown keys and wrong values of one file are one error, by position."""
    problems = _problems(
        'name: "${A}"\nold: {dsn: "${B}"}\nupgraded: {dns: x}\ntables: [{old: a}]\nbogus: 1\napply: {lanes: "${C}"}\n'
    )

    assert [int(line.split(":")[1]) for line in problems] == [1, 2, 3, 3, 4, 5, 6]
    assert sum("is not set" in line for line in problems) == 3


def test_an_unset_variable_gets_a_suggestion() -> None:
    """A variable that is nearly named like one that is set is probably that one."""
    assert _problems(HEAD.replace("OLD_DSN", "OLD_DSM") + TABLES) == [
        "x.yaml:2:12: environment variable OLD_DSM is not set; did you mean 'OLD_DSN'?"
    ]


def test_an_error_says_its_kind() -> None:
    """The daemon treats a wrong connector as any error of kind config."""
    with pytest.raises(ConfigError) as caught:
        _load("")

    assert caught.value.kind == ErrorKind.CONFIG


def test_references_are_replaced_in_values(tmp_path: Path) -> None:
    """Variables, defaults for unset and empty ones, files without their last newline, and the escape."""
    (tmp_path / "password").write_text("p${X}w\n")
    text = (
        HEAD
        + TABLES
        + ('checks: [{name: "${A}-${B:-b}-${EMPTY:-e}-$${C}", old: "${file:password}"}]\napply: {lanes: "${LANES}"}\n')
    )

    connector = _load(text, {**ENVIRON, "A": "a", "EMPTY": "", "LANES": "3"}, tmp_path / "x.yaml")

    assert (connector.checks[0].name, connector.checks[0].old) == ("a-b-e-${C}", "p${X}w")
    assert connector.apply.lanes == 3


@pytest.mark.parametrize(
    "reference,expected",
    [
        ("${file:absent}", "no such file: 'absent'"),
        ("${file:}", "no such file: ''"),
        ("${file:/dev/zero}", "no such file: '/dev/zero'"),
        ("${file:" + "y" * 5000 + "}", "no such file"),
        ("${1A}", "expected ${NAME}, ${NAME:-default} or ${file:path}"),
        ("${}", "expected ${NAME}"),
        ("${A", "'${' without '}'"),
        ("${BAD}", "environment variable BAD is not UTF-8 text"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(reference: str, expected: str) -> None:
    """Each kind of wrong reference gives its own error, and no other about the missing value."""
    (problem,) = _problems(HEAD + TABLES + f"checks: [{{name: a, old: '{reference}'}}]", {**ENVIRON, "BAD": "\udcff"})

    assert expected in problem


def _folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / f"{name}.yaml").write_text(text)
    return path


def test_a_folder_is_read_by_name(tmp_path: Path) -> None:
    """All visible *.yaml and *.yml files of a folder are connectors, sorted; other files are not read."""
    folder = _folder(tmp_path, b=(HEAD + TABLES).replace("crm", "b"), c=(HEAD + TABLES).replace("crm", "c"))
    (folder / "a.yml").write_text((HEAD + TABLES).replace("crm", "a"))
    (folder / ".hidden.yaml").write_text("nonsense")
    (folder / "crm.py").write_text("nonsense")

    assert [connector.name for connector in load_connectors(folder, ENVIRON)] == ["a", "b", "c"]


def test_two_connectors_of_one_name_are_refused(tmp_path: Path) -> None:
    """A name is used once in a daemon; both places are named, also when one file is wrong otherwise."""
    folder = _folder(tmp_path, a=HEAD + TABLES, b=HEAD + TABLES + "bogus: 1\n")

    with pytest.raises(ConfigError) as caught:
        load_connectors(folder, ENVIRON)

    assert str(caught.value).splitlines() == [
        f"{folder}/b.yaml:1:7: name: the same as in {folder}/a.yaml:1:7",
        f"{folder}/b.yaml:5:1: unknown key 'bogus' in connector",
    ]


def test_one_address_has_one_token(tmp_path: Path) -> None:
    """Connectors that share an address share its token."""
    other = (HEAD + TABLES).replace("crm", "b")
    folder = _folder(tmp_path, a=HEAD + TABLES, b=other + "http: {token: x}\n")

    with pytest.raises(ConfigError, match=r"b\.yaml:5:1: http: another token than .*a\.yaml"):
        load_connectors(folder, ENVIRON)


def test_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    """A folder's files are all read before anything is refused."""
    folder = _folder(tmp_path, a="a: 1", b="- b", c=HEAD + TABLES)

    with pytest.raises(ConfigError) as caught:
        load_connectors(folder, ENVIRON)

    assert {f"{folder}/a.yaml", f"{folder}/b.yaml"} == {problem.path for problem in caught.value.problems}


@pytest.mark.parametrize(
    "make,expected",
    [
        (lambda folder: folder / "absent.yaml", "can't read the file: No such file or directory"),
        (lambda folder: folder, r"no connector here: expected files named \*\.yaml or \*\.yml"),
        (lambda folder: folder / "a\0b", "can't read the file"),
    ],
)
def test_a_path_without_connectors_is_refused(tmp_path: Path, make: Callable[[Path], Path], expected: str) -> None:
    """A missing file and an empty folder are errors of the configuration."""
    with pytest.raises(ConfigError, match=expected):
        load_connectors(make(tmp_path), ENVIRON)
