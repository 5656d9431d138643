"""What a running feed knows about itself: plain values that the engine fills in and the faces read. Pure: no clock.

Times are seconds since the Unix epoch; the caller says what time it is. What is not known is None, never 0.
"""

from replicator.telemetry.bus import Bus, Event
from replicator.telemetry.document import connector_document, feed_document
from replicator.telemetry.histogram import Histogram
from replicator.telemetry.lag import Lag, lag_of
from replicator.telemetry.status import (
    OPERATIONS,
    BackfillState,
    ConnectorStatus,
    FeedStatus,
    State,
    TableBackfill,
    Trouble,
)
from replicator.telemetry.verify_status import (
    DATABASES,
    KINDS,
    CertificateStatus,
    CheckStatus,
    OpenFinding,
    VerifyState,
    VerifyStatus,
)

__all__ = [
    "DATABASES",
    "KINDS",
    "OPERATIONS",
    "BackfillState",
    "Bus",
    "CertificateStatus",
    "CheckStatus",
    "ConnectorStatus",
    "Event",
    "FeedStatus",
    "Histogram",
    "Lag",
    "OpenFinding",
    "State",
    "TableBackfill",
    "Trouble",
    "VerifyState",
    "VerifyStatus",
    "connector_document",
    "feed_document",
    "lag_of",
]
