"""What tenant-svc does: commands."""
