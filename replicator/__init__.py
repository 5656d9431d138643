"""Move a live PostgreSQL database to one of another shape, verified, with a way back."""

__version__ = "0.1.0"
