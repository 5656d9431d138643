"""Parts of the machine that a test needs: absent means skipped here, and failed where they were promised.

REPLICATOR_REQUIRE is a comma list of what was promised: postgresql15, psql, kafka, debezium, registry.
"""

import os
from typing import NoReturn

import pytest


def promised(part: str) -> bool:
    """Whether REPLICATOR_REQUIRE names this part."""
    return part in os.environ.get("REPLICATOR_REQUIRE", "").split(",")


def missing(part: str, reason: str) -> NoReturn:
    """Skip the test for want of a part, or fail it where the part was promised."""
    if promised(part):
        pytest.fail(f"REPLICATOR_REQUIRE promises {part}, but {reason}", pytrace=False)
    pytest.skip(f"{reason} (set REPLICATOR_REQUIRE={part} to fail instead)")
