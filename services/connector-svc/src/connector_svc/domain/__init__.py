"""What connector-svc decides: pure."""
