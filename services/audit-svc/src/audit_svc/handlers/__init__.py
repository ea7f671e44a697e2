"""What audit-svc does: it journals every event, answers questions about them, and verifies its chains."""
