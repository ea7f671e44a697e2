"""What the gateway is made of outside: its read model in PostgreSQL, sessions and limits in Redis."""
