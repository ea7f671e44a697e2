"""What tenants and members are, and what is decided about them. Pure."""
