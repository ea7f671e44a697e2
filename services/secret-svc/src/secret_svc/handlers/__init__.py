"""What secret-svc does on a command, and after an event of its own."""
