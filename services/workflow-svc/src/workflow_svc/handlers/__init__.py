"""What workflow-svc does: commands, and reactions to its own events."""
