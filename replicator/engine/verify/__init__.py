"""Verification: whether the target equals f(source), by the two databases alone."""
