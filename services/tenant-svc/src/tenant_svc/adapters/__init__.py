"""What tenant-svc is connected to: its directory in PostgreSQL, and argon2."""
