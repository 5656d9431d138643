"""What operators and their tools see of a running daemon: metrics, health, status API, event stream, dashboard."""

from replicator.control.app import create_app
from replicator.control.findings import FindingsQuery
from replicator.control.server import ControlServer

__all__ = ["ControlServer", "FindingsQuery", "create_app"]
