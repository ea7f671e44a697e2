"""How connector-svc is put together and run."""
