"""How audit-svc is put together and run."""
