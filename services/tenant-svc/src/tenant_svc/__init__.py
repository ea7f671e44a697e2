"""tenant-svc: tenants, members and their sign-in."""
