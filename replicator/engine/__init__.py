"""The loops: they see only ports."""
