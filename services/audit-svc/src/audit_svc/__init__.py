"""The append-only journal of every event of every service."""
