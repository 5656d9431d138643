"""What a running feed knows about itself: plain values that the engine fills in and the faces read. Pure: no clock.

Times are seconds since the Unix epoch; the caller says what time it is. What is not known is None, never 0.
"""

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

__all__ = [
    "OPERATIONS",
    "BackfillState",
    "ConnectorStatus",
    "FeedStatus",
    "Histogram",
    "Lag",
    "State",
    "TableBackfill",
    "Trouble",
    "connector_document",
    "feed_document",
    "lag_of",
]
