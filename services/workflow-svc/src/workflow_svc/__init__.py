"""Temporal workflows, approvals, and their bridge to the event streams."""
