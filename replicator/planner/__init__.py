"""The planner: what must be written to the target, decided without I/O.

rows of one shape ──plan_rows──────┐
transform outcomes ─plan_outcomes──┼──▶ writes ──order_writes──▶ writes in the order of execution
tables without key ─plan_multiset──┤
TRUNCATE ───────────plan_truncate──┘
"""

from replicator.planner.order import TableOrder, order_writes
from replicator.planner.outcomes import plan_outcomes
from replicator.planner.rows import plan_multiset, plan_rows
from replicator.planner.translations import translations
from replicator.planner.truncate import plan_truncate

__all__ = [
    "TableOrder",
    "order_writes",
    "plan_multiset",
    "plan_outcomes",
    "plan_rows",
    "plan_truncate",
    "translations",
]
