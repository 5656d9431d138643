"""Adapters of Kafka and of what belongs to it: the log, its registry, Kafka Connect."""
