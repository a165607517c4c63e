"""Fixtures for the whole repository."""

pytest_plugins = ["visavis.testing.livekit.fixtures"]
