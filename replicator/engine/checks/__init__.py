"""Checks: see `replicator.checks`. What they find is confirmed by further looks, as verification's differences are."""
