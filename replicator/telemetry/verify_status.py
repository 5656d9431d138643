"""What a running daemon knows of verification: its own passes, and what any process has found. Pure: no clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from replicator.telemetry.status import TableBackfill, Trouble

KINDS: Final = ("missing", "extra", "different")
"""What can be wrong with a row, as `verification.Kind` has it."""
DATABASES: Final = ("old", "upgraded")


class VerifyState(StrEnum):
    """What continuous verification does."""

    OFF = "off"  # not asked for, or this process doesn't lead
    WAITING = "waiting"  # for the feed to stream, or for the next pass
    VERIFYING = "verifying"
    RETRYING = "retrying"  # it has failed, for a reason of its own, and is tried again


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """A row that is proven wrong, and not seen equal since.

    Attributes:
        id: its number in replicator.divergence.
        table: the upgraded table.
        key: the row's.
        kind: one of `KINDS`.
        columns: those that differ.
        cause: `verification.Cause`.
        first_seen, last_seen: seconds since the epoch.

    """

    id: int
    table: str
    key: tuple[str, ...]
    kind: str
    columns: tuple[str, ...]
    cause: str
    first_seen: float
    last_seen: float


@dataclass(frozen=True, slots=True)
class CheckStatus:
    """What a check said last.

    Attributes:
        name: its name.
        severity: `block` or `warn`.
        ok: None: undecided, or never run.
        at: when, seconds since the epoch.
        message: why it failed.

    """

    name: str
    severity: str
    ok: bool | None = None
    at: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """Whether there is a proof that both databases agree.

    Attributes:
        valid: it holds now.
        issued_at: seconds since the epoch; None: there never was one.
        reason: what it lacks, or why it is void.

    """

    valid: bool
    issued_at: float | None = None
    reason: str = ""


@dataclass(slots=True)
class VerifyStatus:
    """Verification of one feed.

    Attributes:
        state: of continuous verification.
        open: open findings by (upgraded table, kind); None before it was asked.
        found: findings since this process began, likewise; `declare` makes the label sets.
        findings: some of the open ones, by table, the newest first.
        unsettled: rows that the newest pass could not decide, by table.
        rows: rows compared by this process' passes, by table.
        passes: that ended since this process began, in whichever process.
        pass_run: number of the newest one.
        pass_at: when it ended.
        pass_seconds: how long it took, pauses of an interrupted one included.
        pass_ok: whether it found nothing, and left nothing undecided.
        progress: of the pass that runs, by mapping.
        pass_began: when that one began, in this process.
        next_at: when the next one begins, if it is waited for.
        limit: rows a second that may be read now; None: no limit.
        reasons: why that is less than the connector allows; empty where it isn't.
        latency: how many times as long as usual each database takes to answer; None: unknown.
        checks: by name.
        certificate: None before it was asked.
        trouble: why it is tried again; None when all is well.
        retry_at: when.

    """

    state: VerifyState = VerifyState.OFF
    open: dict[tuple[str, str], int] | None = None
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[OpenFinding] = field(default_factory=list)
    unsettled: dict[str, int] | None = None
    rows: Counter[str] = field(default_factory=Counter)
    passes: int = 0
    pass_run: int | None = None
    pass_at: float | None = None
    pass_seconds: float | None = None
    pass_ok: bool | None = None
    progress: dict[str, TableBackfill] = field(default_factory=dict)
    pass_began: float | None = None
    next_at: float | None = None
    limit: float | None = None
    reasons: tuple[str, ...] = ()
    latency: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(DATABASES))
    checks: dict[str, CheckStatus] = field(default_factory=dict)
    certificate: CertificateStatus | None = None
    trouble: Trouble | None = None
    retry_at: float | None = None

    @property
    def braked(self) -> bool:
        """Whether it reads more slowly than the connector allows, because somebody suffers."""
        return bool(self.reasons)

    @property
    def tables(self) -> list[str]:
        """The upgraded tables that are verified."""
        return sorted(self.rows)

    def declare(self, tables: Iterable[str], checks: Iterable[CheckStatus] = ()) -> None:
        """Make the label sets at once, so that a rate over them has a first value."""
        for table in tables:
            self.rows.setdefault(table, 0)
            for kind in KINDS:
                self.found.setdefault((table, kind), 0)
        for check in checks:
            self.checks.setdefault(check.name, check)

    def counted(self, numbers: Mapping[tuple[str, str], int], findings: Sequence[OpenFinding]) -> None:
        """These are open now."""
        self.open = dict(numbers)
        self.findings = list(findings)

    def passed(self, run: int, *, at: float, seconds: float, ok: bool, unsettled: Mapping[str, int]) -> None:
        """A pass over everything has ended."""
        self.passes += 1
        self.pass_run, self.pass_at, self.pass_seconds, self.pass_ok = run, at, seconds, ok
        self.unsettled = dict(unsettled)
