"""The real Kafka as processes of this machine, without Docker, for the demo and for the tests."""
