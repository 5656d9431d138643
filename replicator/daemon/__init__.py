"""The composition root: the one place that knows the adapters, and the one that catches everything.

Everything that needs a connector's databases goes through here, so that the commands and the engine see no adapter.
"""
