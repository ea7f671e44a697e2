"""How secret-svc is put together and run."""
