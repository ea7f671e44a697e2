"""secret-svc: the only service that reads or writes credentials."""
