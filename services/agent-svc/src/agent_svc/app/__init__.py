"""How agent-svc is put together and run."""
