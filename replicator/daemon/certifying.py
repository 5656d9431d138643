"""Certificates: issued after a verification that proves all of it, and judged whenever somebody asks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from replicator.certificate import Missing, Things, assess_certificate, digest_of, lacks_of, shapes
from replicator.compile import compile_partly
from replicator.daemon.databases import FORWARD, old_dsn, upgraded_dsn
from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.catalog import read_catalog
from replicator.postgres.certificate_state import open_proof_store, read_identity
from replicator.postgres.lsn import format_lsn
from replicator.postgres.session import connect
from replicator.transforms import load_transforms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.certificate import Assessment
    from replicator.config import Connector
    from replicator.daemon.verifying import Finished, Wanted
    from replicator.engine.verify.run import Report
    from replicator.mapping import Mappings

_LOG = structlog.get_logger("replicator.certificate")


@dataclass(frozen=True)
class Issued:
    """What became of a verification: a certificate, or what it lacks.

    Attributes:
        id: the certificate's number; None: there is none.
        missing: why not.

    """

    id: int | None
    missing: tuple[Missing, ...] = ()


def certify(connector: Connector, wanted: Wanted, issued: list[Issued]) -> Finished:
    """What `verify_connector` calls when a report is stored: issues a certificate, where it was of everything.

    What came of it is appended to `issued`.
    """

    async def finished(mappings: Mappings, report: Report) -> None:
        if not wanted.tables and wanted.where is None and wanted.sample_percent >= 100 and report.ok:
            issued.append(await issue_certificate(connector, mappings, report))

    return finished


async def issue_certificate(connector: Connector, mappings: Mappings, report: Report, *, quiet: bool = False) -> Issued:
    """Issue a certificate for a verification of all mappings that has come to its end, its checks included.

    Args:
        connector: its file.
        mappings: as they were compiled when the verification began.
        report: without a finding; stored.
        quiet: log at DEBUG, for who does it again and again.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION.

    """
    assert report.ok
    warn, tell = (_LOG.debug, _LOG.debug) if quiet else (_LOG.warning, _LOG.info)
    things = await _things(connector, mappings)
    async with open_proof_store(upgraded_dsn(connector), connector.name, FORWARD) as store:
        missing = lacks_of(await store.facts([mapping.name for mapping in mappings.all]))
        if missing:
            for one in missing:
                warn("no certificate", connector=connector.name, lack=str(one.lack), detail=one.message)
            return Issued(None, missing)
        number = await store.issue(report.run, {"things": things.to_json(), **_content(report)})
    tell("certificate issued", connector=connector.name, certificate=number, run=report.run)
    return Issued(number)


async def read_certificate(connector: Connector) -> Assessment:
    """Judge the newest certificate by what there is now; what voids it is stored, where that is possible.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION of reading; CONFIG of the connector's files.

    """
    async with (
        await connect(old_dsn(connector), f"{connector.name}/certificate") as old,
        await connect(upgraded_dsn(connector), f"{connector.name}/certificate") as upgraded,
    ):
        catalogs = await read_catalog(old), await read_catalog(upgraded)
    transforms = () if connector.transforms is None else load_transforms(connector.transforms)
    mappings, problems = compile_partly(connector.tables, transforms, *catalogs, forward=True)
    return await judge_certificate(connector, mappings, problems=list(map(str, problems.found)), make=False)


async def judge_certificate(
    connector: Connector, mappings: Mappings, *, problems: Sequence[str] = (), make: bool = True
) -> Assessment:
    """The same, of mappings that are compiled (`problems`: why others can't be).

    The tables of verification are made where they lack, if `make`.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION of reading.

    """
    now = replace(await _things(connector, mappings), problems=problems)
    async with open_proof_store(upgraded_dsn(connector), connector.name, FORWARD, make=make) as store:
        assessment = assess_certificate(await store.facts([mapping.name for mapping in mappings.all]), now)
        if assessment.voided and assessment.certificate is not None:
            reason = "; ".join(one.message for one in assessment.voided)
            _LOG.warning("certificate void", connector=connector.name, reason=reason)
            try:
                await store.void(assessment.certificate.id, reason)
            except ReplicatorError as error:  # who may only read learns it, too
                if error.kind not in (ErrorKind.PERMISSION, ErrorKind.READ_ONLY):
                    raise
    return assessment


async def _things(connector: Connector, mappings: Mappings) -> Things:
    """What a certificate is about, as it is now: the mappings' tables as they were compiled."""
    purpose = f"{connector.name}/certificate"
    return Things(
        connector=connector_digests(connector),
        mappings={mapping.name: mapping.digest for mapping in mappings.all},
        old=shapes(mappings.all, source=True),
        upgraded=shapes(mappings.all, source=False),
        source=await read_identity(old_dsn(connector), purpose),
        target=await read_identity(upgraded_dsn(connector), purpose),
    )


def connector_digests(connector: Connector) -> dict[str, str]:
    """Digests of the parts of a connector that say what equal means: how fast, where from and who is told is left out.

    The tables' own part is in the mappings' digests, but for what an upgraded column may lose.
    """
    lossy = {str(entry.old): sorted(entry.lossy) for entry in connector.tables if entry.lossy}
    checks = [
        (
            check.model_dump(mode="json", exclude={"severity", "timeout", "show", "great_expectations"}),
            check.severity,
            None if check.great_expectations is None else _file_digest(check.great_expectations.read_bytes()),
        )
        for check in connector.checks
    ]
    return {
        "tables.lossy": digest_of(lossy),
        "verify.tolerance": digest_of({str(name): str(most) for name, most in connector.verify.tolerance.items()}),
        "checks": digest_of(checks),
    }


def _file_digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(report: Report) -> dict[str, Any]:
    position = None
    if report.first_lsn is not None and report.last_lsn is not None:
        position = {"from": format_lsn(report.first_lsn), "upto": format_lsn(report.last_lsn)}
    return {
        "tables": {
            table: {"rows": counts.rows, "within_tolerance": counts.within}
            for table, counts in sorted(report.tables.items())
        },
        "checks": [{name: check[name] for name in ("name", "ok", "severity")} for check in report.checks],
        "position": position,
        "tolerance": {
            f"{table}.{column}": str(most)
            for table, columns in report.tolerances.items()
            for column, most in columns.items()
        },
    }
