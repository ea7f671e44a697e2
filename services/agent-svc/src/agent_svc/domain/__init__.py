"""What agent-svc decides, without any I/O."""
