"""The slot keeps the contract of `ports.Source`."""

import pytest

from tests.conformance.source_contract import PROMISES, Promise
from tests.fix_slot import SlotWorld


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_slot_keeps_the_contract(promise: Promise, slot_world: SlotWorld) -> None:
    """Every promise of the port, on a slot of a real server."""
    await promise(slot_world)
