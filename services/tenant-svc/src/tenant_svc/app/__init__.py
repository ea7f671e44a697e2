"""How tenant-svc is put together and run."""
