"""Move a live PostgreSQL database to one of another shape, verified, with a way back."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replicator.rows import Aggregate, RawText, Row
    from replicator.transforms import KeyMap, transform

__version__ = "0.1.0"
__all__ = ["Aggregate", "KeyMap", "RawText", "Row", "__version__", "transform"]

_HOMES = {
    "Aggregate": "replicator.rows",
    "KeyMap": "replicator.transforms",
    "RawText": "replicator.rows",
    "Row": "replicator.rows",
    "transform": "replicator.transforms",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when asked for: `replicator --help` needs no database driver."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
