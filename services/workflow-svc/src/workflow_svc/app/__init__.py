"""How workflow-svc is put together and run."""
