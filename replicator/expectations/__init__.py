"""Suites of Great Expectations, in a process of their own: neither its size nor its settings are ours.

runner.py   here: starts the process and reads its answer
suite.py    there: the one module that imports great_expectations; it imports nothing of ours, so that any Python
            that has the library may run it
"""

from replicator.expectations.runner import PYTHON, suite_runner

__all__ = ["PYTHON", "suite_runner"]
