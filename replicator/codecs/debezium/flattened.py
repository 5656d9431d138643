"""Events flattened by Debezium's transform ExtractNewRecordState: the row alone, and what was added to it.

https://debezium.io/documentation/reference/stable/transformations/event-flattening.html
Debezium: AbstractExtractNewRecordState, DefaultDeleteHandlingStrategy (2.7 also has `delete.handling.mode`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from replicator.errors import ErrorKind, ReplicatorError

TRANSFORM: Final = "io.debezium.transforms.ExtractNewRecordState"
_ENVELOPE: Final = frozenset({"op", "ts_ms", "ts_us", "ts_ns"})
_TRANSACTION: Final = frozenset({"id", "total_order", "data_collection_order"})


@dataclass(frozen=True)
class Flattening:
    """How events were flattened.

    Attributes:
        fields: names in the row of what was added, by what it is: `op`, `source.lsn`, `transaction.id`, ...
        headers: likewise, of headers.
        tombstones: 'delete' where a record without value stands for a delete; 'follow' where it only follows a row
            with `__deleted`; 'none' where deletes were dropped.

    """

    fields: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    tombstones: str = "delete"

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Flattening | None:
        """Read from a connector's settings; None where no transform flattens.

        Raises:
            ReplicatorError: CONFIG, when the transform drops something.

        """
        names = [name.strip() for name in settings.get("transforms", "").split(",") if name.strip()]
        for name in names:
            if settings.get(f"transforms.{name}.type") == TRANSFORM:
                prefix = f"transforms.{name}."
                return cls._read(
                    name, {key[len(prefix) :]: value for key, value in settings.items() if key.startswith(prefix)}
                )
        return None

    @classmethod
    def _read(cls, name: str, settings: Mapping[str, str]) -> Flattening:
        fields = _added(settings.get("add.fields", ""), settings.get("add.fields.prefix", "__"))
        headers = _added(settings.get("add.headers", ""), settings.get("add.headers.prefix", "__"))
        if "op" not in fields and "op" not in headers:
            raise _config(
                name, "doesn't say what happened to a row", "add.fields=op,source.lsn,source.txId,source.ts_us"
            )
        if "route.by.field" in settings and settings["route.by.field"].strip():
            raise _config(name, "routes rows by a column", "route.by.field= (empty)")
        if settings.get("drop.fields.header.name", "").strip():
            raise _config(name, "drops columns", "drop.fields.header.name= (empty)")
        mode = settings.get("delete.tombstone.handling.mode", "").strip().lower()
        if not mode and "delete.handling.mode" in settings:
            mode = _old_mode(settings)
        mode = mode or "tombstone"
        if mode == "drop":
            raise _config(name, "drops deletes", "delete.tombstone.handling.mode=rewrite")
        known = {
            "tombstone": "delete",
            "delete-to-tombstone": "delete",
            "rewrite": "follow",
            "rewrite-with-tombstone": "follow",
        }
        if mode not in known:
            raise _config(
                name, "handles deletes in a way that isn't known here", "delete.tombstone.handling.mode=rewrite"
            )
        return cls(fields, headers, known[mode])


def _old_mode(settings: Mapping[str, str]) -> str:
    """Of 2.x: drop, rewrite or none, and whether tombstones are dropped as well."""
    mode = settings["delete.handling.mode"].strip().lower()
    kept = settings.get("drop.tombstones", "true").strip().lower() == "false"
    if mode == "rewrite":
        return mode
    if mode == "none" or (mode == "drop" and kept):
        return "tombstone"  # at least one record without value stands for each delete
    return mode


def _added(setting: str, prefix: str) -> dict[str, str]:
    """What was added, by its place in the envelope: `FieldReference`."""
    found = {}
    for part in (one.strip() for one in setting.split(",")):
        if not part:
            continue
        path, _, renamed = part.partition(":")
        place, dot, leaf = path.partition(".")
        if dot:
            origin, name = path, f"{place}_{leaf}"
        else:
            origin = path if path in _ENVELOPE else f"transaction.{path}" if path in _TRANSACTION else f"source.{path}"
            name = path
        found[origin] = prefix + (renamed or name)
    return found


def _config(name: str, what: str, setting: str) -> ReplicatorError:
    return ReplicatorError(
        f"stream.debezium: the transform {name} ({TRANSFORM}) {what}",
        kind=ErrorKind.CONFIG,
        hint=f"Set transforms.{name}.{setting} in Debezium's connector, and take a new snapshot of what was lost",
    )
