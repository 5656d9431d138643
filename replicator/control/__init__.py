"""The HTTP face: metrics, health, API."""
