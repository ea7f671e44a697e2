"""audit-svc: the append-only journal of every event of every service."""
