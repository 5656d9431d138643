"""The JSON Schema for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from replicator.config import json_schema

COMMITTED = Path(__file__).parents[2] / "schemas" / "connector.schema.json"

SAMPLE = """
name: crm
old:      {dsn: "${OLD_DSN}"}
upgraded: {dsn: "${UPGRADED_DSN}"}
stream:   {kind: slot}
transforms: crm.py
tables:
  - {old: "public.*"}
  - {old: public.countries, upgraded: ref.countries, columns: {iso: iso_code}, drop: [legacy_id]}
apply:    {lanes: 1, batch_rows_max: 10000, batch_bytes_max: 16MiB, on_error: stop}
backfill: {workers: 2, chunk_rows: 20000}
verify:   {rows_per_second_max: 20000}
checks:
  - {name: invoices balance, upgraded: "select id from crm.invoices where total <> paid + due"}
cutover:  {max_pause: 5s, lag_max: 2s, router: {kind: pgbouncer, dsn: "${PGBOUNCER_DSN}"}, reverse: on}
http:     {listen: "127.0.0.1:8650"}
"""


def _errors(text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(json_schema())
    return [error.json_path for error in validator.iter_errors(yaml.safe_load(text))]


def _changed(**sections: Any) -> str:
    return yaml.safe_dump(yaml.safe_load(SAMPLE) | sections)


def test_the_committed_schema_is_current() -> None:
    """`python -m replicator.config > schemas/connector.schema.json` would change nothing."""
    assert json_schema() == json.loads(COMMITTED.read_text())


def test_the_schema_is_a_schema() -> None:
    """Editors can read it: draft 2020-12, with identity and title."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)

    assert {"$schema", "$id", "title", "description"} <= schema.keys()


def test_a_sample_connector_fits_the_schema() -> None:
    """What the manual shows gives no warning in an editor."""
    assert _errors(SAMPLE) == []


@pytest.mark.parametrize(
    "sections",
    [
        {"apply": {"lanes": "${LANES}", "batch_bytes_max": "${BYTES}", "on_error": "${WHAT:-stop}"}},
        {"stream": {"create": "${CREATE}", "heartbeat_interval": "${BEAT}"}, "name": "${NAME}"},
        {"cutover": {"reverse": "off", "max_pause": "1m30s"}},
        {"verify": "continuous"},
        {"verify": {"continuous": "on", "interval": "5m"}},
        {"stream": {"heartbeat_interval": 0, "buffer_bytes_max": 1_000_000}},
        {"stream": {"kind": "kafka", "bootstrap_servers": "a:1", "format": "debezium-json", "topic_prefix": "old"}},
    ],
)
def test_references_and_both_streams_fit_the_schema(sections: dict[str, Any]) -> None:
    """A reference may stand for every typed value; on and off may be texts."""
    assert _errors(_changed(**sections)) == []


@pytest.mark.parametrize(
    "sections",
    [
        {"tabels": []},
        {"apply": {"lanes": 0}},
        {"cutover": {"max_pause": 5}},
        {"stream": {"kind": "slto"}},
        {"old": {}},
    ],
)
def test_mistakes_do_not_fit_the_schema(sections: dict[str, Any]) -> None:
    """An editor underlines what loading would refuse."""
    assert _errors(_changed(**sections))
