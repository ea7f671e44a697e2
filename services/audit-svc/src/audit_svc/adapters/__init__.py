"""What audit-svc is connected to: its journal in PostgreSQL."""
