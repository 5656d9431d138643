"""Print the JSON Schema: `python -m replicator.config > schemas/connector.schema.json`."""

from __future__ import annotations

import json
import sys

from replicator.config.schema import json_schema

sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
