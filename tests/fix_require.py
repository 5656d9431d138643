"""Parts of the machine that a test needs: absent means skipped here, and failed where they were promised."""

import os
from typing import NoReturn

import pytest


def missing(part: str, reason: str) -> NoReturn:
    """Skip the test for want of a part, or fail it where REPLICATOR_REQUIRE (a comma list) names that part."""
    if part in os.environ.get("REPLICATOR_REQUIRE", "").split(","):
        pytest.fail(f"REPLICATOR_REQUIRE promises {part}, but {reason}", pytrace=False)
    pytest.skip(f"{reason} (set REPLICATOR_REQUIRE={part} to fail instead)")
